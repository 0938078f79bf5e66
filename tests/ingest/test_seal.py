"""Sealing: what a block says of its bytes is true, wherever the stream was cut."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loghaul.chunk import BLOB, EVENTS, TEXT, End, Mark, StreamKey
from loghaul_ingest import levels, lines, tokens
from loghaul_ingest.block import MAX_HEAD_BYTES, Block, Facts
from loghaul_ingest.event import event
from loghaul_ingest.seal import seal
from loghaul_ingest.view import View
from loghaul_ingest.words import words

KEY = StreamKey("run", "0" * 32, "stdout")


def facts_of(kind: str, end: int | None = None) -> Facts:
    over = None if end is None else End(end, 1, "exit", None, {})
    return Facts(KEY, kind, 1, {"run.id": "run", "run.rank": 3}, over)


def record(level: str, message: str = "m", second: int = 1, **extra: object) -> bytes:
    fields: dict[str, object] = {
        "@timestamp": f"2026-11-23T22:26:{second:02d}.123456Z",
        "log.level": level,
        "message": message,
        "log.logger": "azure.core",
    }
    if extra:
        fields["extra"] = extra
    fields["event.severity"] = levels.SEVERITY.get(level, 35)
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


TEXT_PIECES = [
    b"loss=0.1 step 3\n",
    b"WARNING:root:careful\n",
    b"2026-01-01 10:00:00,123 - a.b - ERROR - broken\r\n",
    b"\r 10%|#  |",
    b"\r 20%|## |\r",
    b"\n",
    b"\x1b[31mERROR\x1b[0m: red\n",
    b'{"level":"error","msg":"json","epoch":3,"logger":"x"}\n',
    b"ValueError: bad\n",
    b"ERROR",
    b"\xff\0",
    b"no newline ",
]
EVENT_PIECES = [
    record("info", epoch=3, opt={"lr": 0.1}),
    record("error", 'a "quoted" line\nwith a second', 7),
    record("audit", second=3),
    record("debug", "é", 2, tags=["a", "b"]),
    b'{"log.level":"WARN","message":"foreign","@timestamp":"2026-11-23T22:00:00Z"}\n',
    b"not json\n",
    b'{"torn":',
    b"\r\n",
]
own_records = st.lists(st.sampled_from(EVENT_PIECES[:4]), max_size=8)
streams = st.one_of(
    st.tuples(st.just(TEXT), st.lists(st.sampled_from(TEXT_PIECES), max_size=12).map(b"".join)),
    st.tuples(st.just(EVENTS), st.lists(st.sampled_from(EVENT_PIECES), max_size=8).map(b"".join)),
    st.tuples(st.just(EVENTS), own_records.map(b"".join)),
)


def cut(
    kind: str, data: bytes, cuts: list[int], known_end: bool = True
) -> list[tuple[Block, View]]:
    """Seal a stream in pieces, the way a worker does, and view each block."""
    at = sorted({position for position in cuts if 0 < position < len(data)})
    at = [p for p in at if not (data[p - 1] == 13 and data[p] == 10 and kind == TEXT)]
    facts, head, found = facts_of(kind), b"", []
    later = facts_of(kind, len(data))
    for start, end in pairwise([0, *at, len(data)]):
        piece, ended = data[start:end], end == len(data) and known_end
        marks = tuple(Mark(1, 1_000_000 + offset) for offset in range(start, end))
        first = 1_000_000 + start - len(head) if head else None
        block = seal(facts, start, piece, marks, head, None, ended, head_time=first)
        found.append((block, View(later, block.head, piece, block.marks, head)))
        head = (head + piece)[lines.last_end(head + piece, kind, more=False) :]
    return found


def events_of(found: list[tuple[Block, View]]) -> list[dict[str, object]]:
    return [event(view, span) for _, view in found for span in view.spans()]


@settings(max_examples=120, deadline=None)
@given(streams, st.lists(st.integers(0, 1500), max_size=8))
def test_any_cut_of_a_stream_gives_the_same_events(
    stream: tuple[str, bytes], cuts: list[int]
) -> None:
    kind, data = stream
    assert events_of(cut(kind, data, [])) == events_of(cut(kind, data, cuts))


@settings(max_examples=150, deadline=None)
@given(streams, st.lists(st.integers(0, 1500), max_size=8))
def test_the_counts_of_blocks_add_up_to_those_of_their_events(
    stream: tuple[str, bytes], cuts: list[int]
) -> None:
    for block, view in cut(*stream, cuts):
        spans = view.spans()
        said = Counter(level for span in spans if (level := view.level_of(span)))
        assert len(spans) == block.head.lines
        assert sum(map(view.progress, spans)) == block.head.progress
        assert dict(said) == dict(block.head.levels)
        assert sum(mark.length for mark in block.marks) == block.head.length == len(block.data)


@settings(max_examples=120, deadline=None)
@given(streams, st.lists(st.integers(0, 1500), max_size=8), st.booleans())
def test_a_block_proposes_everything_that_its_events_hold(
    stream: tuple[str, bytes], cuts: list[int], known_end: bool
) -> None:
    kind, data = stream
    for block, view in cut(kind, data, cuts, known_end):
        have, high = set(block.words.split()), set(block.words_high.split())
        for span in view.spans():
            found = view.words[slice(*span)].split()
            assert have.issuperset(word[:128] for word in found)
            if view.severity_of(span) >= levels.HIGH:
                assert high.issuperset(word[:128] for word in found)
            assert block.head.time_min <= view.time_of(span) <= block.head.time_max
            for field, value in view.fields(span).items():
                for one in value if isinstance(value, list) else [value]:
                    asked = tokens.asked(field, one)
                    assert asked is None or asked & block.fields, (field, one)


@settings(max_examples=100, deadline=None)
@given(streams)
def test_words_at_warning_and_above_are_those_of_high_events_alone(
    stream: tuple[str, bytes],
) -> None:
    ((block, view),) = cut(*stream, [])
    expected = [
        word
        for span in view.spans()
        if view.severity_of(span) >= levels.HIGH
        for word in words(view.buffer, view.kind)[slice(*span)].split()
    ]
    assert sorted(expected) == sorted(block.words_high.split())


def test_a_block_tells_what_can_be_asked_of_it() -> None:
    data = b"".join([record("info", epoch=3, Phase="Train"), record("error", tags=["a", 1])])
    block = seal(facts_of(EVENTS), 100, data, (Mark(len(data), 5),), position=17)
    assert block.fields == {
        "level=info",
        "level=error",
        "logger=azure.core",
        "extra.epoch=3.0",
        "extra.Phase=train",
        "extra.tags=a",
        "extra.tags=1.0",
    }
    assert (block.head.offset, block.head.end, block.head.position) == (100, 100 + len(data), 17)
    assert block.head.levels == {"info": 1, "error": 1}
    assert block.head.time_min == block.head.time_max == 1795472761123456


def test_a_record_s_own_time_counts_and_not_its_arrival() -> None:
    data = record("info", second=9) + record("info", second=4)
    head = seal(facts_of(EVENTS), 0, data, (Mark(len(data), 5),)).head
    assert head.time_max - head.time_min == 5_000_000


@pytest.mark.parametrize("bad", [b"2026-02-31T", b"2026-13-01T", b"9999-99-99T", b"0000-01-01T"])
def test_a_time_of_no_calendar_is_the_time_of_arrival(bad: bytes) -> None:
    data = record("info") + record("error").replace(b"2026-11-23T", bad) + record("info")
    ((block, view),) = cut(EVENTS, data, [])
    arrived = view.time_of(view.spans()[1])
    assert 1_000_000 <= arrived <= 1_000_000 + len(data)
    assert block.head.time_min <= arrived <= block.head.time_max


def test_many_extras_become_one_word_that_says_so() -> None:
    data = record("info", **{f"k{number}": number for number in range(5000)})
    block = seal(facts_of(EVENTS), 0, data, (Mark(len(data), 5),))
    assert len(block.fields) <= tokens.MAX_TOKENS + 8
    asked = tokens.asked("extra.k4999", 4999)
    assert asked and asked & block.fields
    assert "level=info" in block.fields


def test_many_values_of_one_extra_leave_the_others_precise() -> None:
    data = b"".join(record("info", step=step, phase="train") for step in range(200))
    fields = seal(facts_of(EVENTS), 0, data, (Mark(len(data), 5),)).fields
    assert {"extra.step=*", "extra.phase=train", "level=info"} <= fields
    assert not any(one.startswith("extra.step=1") for one in fields)


def test_a_value_is_asked_for_as_queries_compare_it() -> None:
    assert tokens.token("extra.a", 3) == tokens.token("extra.a", "3.0")
    assert tokens.token("logger", "Azure.Core") == tokens.token("logger", "azure.core")
    assert tokens.token("extra.a", True) == tokens.token("extra.a", "true")
    assert tokens.asked("process.thread.name", "x") is None
    assert len(tokens.token("extra.a", "x" * 500)) == len("extra.a=") + 128
    assert tokens.token("extra.a", 10**400) == tokens.token("extra.a", str(10**400))


def test_an_unfinished_line_counts_when_the_stream_ends_there() -> None:
    facts, marks = facts_of(TEXT), (Mark(14, 5),)
    assert seal(facts, 0, b"ERROR: a\nERROR", marks).head.lines == 1
    assert seal(facts, 0, b"ERROR: a\nERROR", marks, ended=True).head.lines == 2
    assert seal(facts, 0, b"ERROR: a\nERROR", marks, ended=True).head.levels == {"error": 2}


def test_the_words_of_the_beginning_stand_where_the_line_ends() -> None:
    block = seal(facts_of(TEXT), 9, b" end\nnext\n", (Mark(10, 50),), b"beginning", head_time=7)
    assert block.words.split() == [b"beginning", b"end", b"next"]
    assert (block.head.head, block.head.time_min, block.head.time_max) == (9, 7, 50)
    assert block.marks == (Mark(0, 7), Mark(10, 50))


def test_of_a_line_longer_than_a_block_the_beginning_is_indexed_where_it_ends() -> None:
    line = b"first " + b"x " * 50_000_000 + b"last"
    head, data = line[:MAX_HEAD_BYTES], line[-1000:] + b"\n"
    block = seal(
        facts_of(TEXT),
        len(line) - 1000,
        data,
        (Mark(len(data), 9),),
        head,
        head_length=len(line) - 1000,
        head_time=1,
    )
    assert {b"first", b"last"} <= set(block.words.split())
    view = View(facts_of(TEXT), block.head, data, block.marks, head)
    (span,) = view.spans()
    assert (view.offset_of(span), view.time_of(span)) == (0, 1)


@pytest.mark.parametrize("kind", [TEXT, EVENTS, BLOB])
@pytest.mark.parametrize(
    "data", [b"", b"\n", b"\r", b"\0" * 100, b"\xff" * 65536, b"\n" * 5000, b"\r" * 999]
)
def test_bytes_that_say_nothing_are_sealed(kind: str, data: bytes) -> None:
    block = seal(facts_of(kind), 0, data, (Mark(len(data), 5),) if data else (), ended=True)
    assert block.data == data
    if kind == BLOB or not data:
        expected = 0
    elif kind == TEXT:
        expected = len(data.splitlines())
    else:
        expected = data.count(b"\n") or 1
    assert expected == block.head.lines
    assert not block.words.split()
