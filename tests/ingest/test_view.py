"""A view: the events of a block, computed when asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loghaul.chunk import EVENTS, TEXT, End, Mark, StreamKey
from loghaul_ingest.block import BlockKey, Facts, Head
from loghaul_ingest.seal import seal
from loghaul_ingest.stores.base import Reader, Stored
from loghaul_ingest.view import View, open_view

KEY = StreamKey("run", "0" * 32, "stdout")
FACTS = Facts(KEY, TEXT, 1, {})

data = st.lists(
    st.sampled_from([b"a", b"bc", b"\n", b"\r", b"\r\n", b"\n\r", b"\r\r"]), max_size=20
).map(b"".join)


def view_of(content: bytes, before: bytes = b"", ended: bool = False, kind: str = TEXT) -> View:
    facts = Facts(KEY, kind, 1, {})
    marks = (Mark(len(content), 5),)
    block = seal(facts, 100, content, marks, before, None, ended)
    return View(facts, block.head, content, block.marks, before)


@settings(max_examples=150)
@given(data, st.sampled_from([b"", b"xy"]), st.booleans(), st.sampled_from([TEXT, EVENTS]))
def test_every_position_lies_in_its_span(
    content: bytes, before: bytes, ended: bool, kind: str
) -> None:
    view = view_of(content, before, ended, kind)
    spans = view.spans()
    for position in range(len(view.buffer)):
        expected = [span for span in spans if span[0] <= position < span[1]]
        assert expected == [view.span_at(position)] or (not expected and not view.span_at(position))
    assert view.span_at(-1) is None
    assert view.span_at(len(view.buffer)) is None


@given(data, st.booleans())
def test_text_is_the_line_without_its_terminator(content: bytes, ended: bool) -> None:
    view = view_of(content, ended=ended)
    expected = content[: view.end].splitlines()
    assert expected == [view.text(span) for span in view.spans()]


def test_an_offset_is_that_of_the_first_byte_also_where_the_line_began_before() -> None:
    view = view_of(b"end\nnext\n", b"begin ")
    assert [view.offset_of(span) for span in view.spans()] == [94, 104]
    assert view.text(view.spans()[0]) == b"begin end"


def test_a_view_without_its_beginning_still_knows_where_the_line_began() -> None:
    whole = view_of(b"end\nnext\n", b"begin ")
    view = View(FACTS, whole.head, whole.data, whole.marks)
    assert [view.offset_of(span) for span in view.spans()] == [94, 104]
    assert view.text(view.spans()[0]) == b"end"


def test_the_time_of_a_line_is_the_arrival_of_its_first_byte() -> None:
    content = b"one\ntwo\nthree\n"
    marks = (Mark(2, 10), Mark(2, 20), Mark(5, 30), Mark(5, 40))
    block = seal(FACTS, 100, content, marks, b"zero ", head_time=3)
    view = View(FACTS, block.head, content, block.marks, b"zero ")
    assert [view.time_of(span) for span in view.spans()] == [3, 30, 30]


def test_an_unfinished_line_is_an_event_once_the_stream_is_known_to_end_there() -> None:
    block = seal(FACTS, 0, b"done\nPassword: ", (Mark(15, 5),))
    open_stream = View(FACTS, block.head, block.data, block.marks)
    assert [open_stream.text(span) for span in open_stream.spans()] == [b"done"]
    ended = Facts(KEY, TEXT, 1, {}, End(15, 9, "exit", None, {}))
    view = View(ended, block.head, block.data, block.marks)
    assert [view.text(span) for span in view.spans()] == [b"done", b"Password: "]
    assert view.span_at(8) == (5, 15)


def test_a_level_is_the_line_s_own() -> None:
    view = view_of(b"plain\nERROR: x\nplain\nINFO - y\n")
    assert [view.level_of(span) for span in view.spans()] == [None, "error", None, "info"]
    assert [view.severity_of(span) for span in view.spans()] == [0, 40, 0, 20]
    assert [level for _, _, level in view.level_lines()] == ["error", "info"]


def test_a_level_without_order_has_the_severity_that_its_record_says() -> None:
    record = b'{"@timestamp":"2026-11-23T22:26:47.123456Z","log.level":"audit","message":"m",'
    view = view_of(record + b'"event.severity":35}\n', kind=EVENTS)
    assert view.severity_of(view.spans()[0]) == 35


class Blocks:
    """Blocks in memory, as far as `open_view` asks for them."""

    def __init__(self, stored: Sequence[Stored]) -> None:
        self.stored = stored
        self.asked = 0

    def heads(self, stream: StreamKey, start: int = 0, end: int | None = None) -> Iterator[Head]:
        self.asked += 1
        return (s.head for s in self.stored if s.head.end > start and s.head.offset < (end or 1e99))

    def load(self, keys: Sequence[BlockKey]) -> Iterator[Stored]:
        return (s for s in self.stored if s.head.key in keys)


def blocks(*parts: bytes) -> list[Stored]:
    found: list[Stored] = []
    head, offset = b"", 0
    for part in parts:
        block = seal(FACTS, offset, part, (Mark(len(part), offset),), head, head_length=len(head))
        found.append(Stored(block.head, part, block.marks))
        head, offset = (b"" if part.endswith(b"\n") else head + part), offset + len(part)
    return found


def test_a_view_fetches_the_beginning_of_its_first_event_and_no_more() -> None:
    stored = blocks(b"old\n", b"be", b"gin ", b"end\nnext\n")
    reader: Any = Blocks(stored)
    view = open_view(cast(Reader, reader), FACTS, stored[3])
    assert [view.text(span) for span in view.spans()] == [b"begin end", b"next"]
    assert [view.offset_of(span) for span in view.spans()] == [4, 14]
    assert reader.asked == 1


def test_a_view_that_needs_nothing_before_it_fetches_nothing() -> None:
    stored = blocks(b"old\n", b"be", b"gin ")
    reader: Any = Blocks(stored)
    assert open_view(cast(Reader, reader), FACTS, stored[0]).spans() == [(0, 4)]
    assert open_view(cast(Reader, reader), FACTS, stored[2]).spans() == []
    assert reader.asked == 0


@pytest.mark.parametrize("missing", [0, 1])
def test_a_beginning_that_vanished_is_left_out(missing: int) -> None:
    stored = blocks(b"be", b"gin ", b"end\n")
    reader: Any = Blocks([s for index, s in enumerate(stored) if index != missing])
    view = open_view(cast(Reader, reader), FACTS, stored[2])
    assert view.text(view.spans()[0]) == (b"end" if missing == 0 else b"beend")
    assert view.offset_of(view.spans()[0]) == 0
