"""The predicate against an oracle that goes line by line, proposals against the predicate."""

from __future__ import annotations

import json
import re

from hypothesis import given, settings
from hypothesis import strategies as st

from loghaul_ingest import recognise
from loghaul_ingest.query import parse, tree
from loghaul_ingest.query.proposal import holds
from loghaul_ingest.words import blank

NOW = 1_764_000_100_000_000


def lines_of(data: bytes, kind: str) -> list[bytes]:
    ends = rb"\n" if kind == "events" else rb"\r\n|\n|\r"
    parts = re.split(rb"(" + ends + rb")", data)
    found = [text for text, _ in zip(parts[::2], parts[1::2], strict=False)]
    return [*found, parts[-1]] if parts[-1] else found


def in_words(line: bytes, words: tuple[bytes, ...], kind: str, keys: bool = True) -> bool:
    text = blank(line, kind).lower()
    if keys and kind == "events":
        for key in ("@timestamp", "log.level", "message", "log.logger", "error.type", "extra"):
            text = re.sub(rb'(?<=[{,])"' + re.escape(key).encode() + rb'":', b"\xff\x01:", text)
    form = rb"(?<![a-z0-9_])" + rb"[^a-z0-9_\x01]+".join(words) + rb"(?![a-z0-9_])"
    return re.search(form, text) is not None


def oracle(node: tree.Tree, line: bytes, kind: str) -> bool:
    if isinstance(node, tree.Every):
        return True
    if isinstance(node, tree.And):
        return all(oracle(part, line, kind) for part in node.parts)
    if isinstance(node, tree.Or):
        return any(oracle(part, line, kind) for part in node.parts)
    if isinstance(node, tree.Not):
        return not oracle(node.part, line, kind)
    if isinstance(node, tree.Phrase):
        return in_words(line, node.words, kind)
    if isinstance(node, tree.Level):
        level = recognise.fields_of(line, kind).get("log.level")
        return level is not None and (node.names is None or level in node.names)
    if isinstance(node, tree.Field):
        if node.field == "run.rank":
            return node.test(3)
        return node.test(recognise.fields_of(line, kind).get(node.field))
    if isinstance(node, tree.Wild):
        assert "." not in node.pattern
        form = re.compile(node.pattern.replace("*", "[a-z0-9_]*").encode())
        words = re.findall(rb"[a-z0-9_]+", blank(line, kind).lower())
        return any(form.fullmatch(word) for word in words)
    if isinstance(node, tree.Text):
        return node.text.lower() in line.decode("utf-8", "replace").lower()
    raise AssertionError(node)


def found(query, stream) -> list[bytes]:
    matcher = query.bind(stream.facts)
    if matcher is None:
        return []
    result = []
    for _, view in stream.blocks:
        spans = matcher.spans(view)
        assert matcher.count(view) == len(spans)
        result += [view.text(span) for span in spans]
    return result


WORDS = ["foo", "bar", "FOO", "foobar", "o", "3", "lr_0", "größe", "übung", "→", "x" * 140]
LINE = st.lists(
    st.sampled_from(
        [*WORDS, " ", " ", ".", "/", "\x1b[31m", "\x1b[0m", "ERROR:root:", "INFO", "\t", "=", "\0"]
    ),
    max_size=12,
).map("".join)
TEXT = st.lists(
    st.tuples(LINE, st.sampled_from(["\n", "\n", "\n", "\r\n", "\r"])).map("".join), max_size=12
).map(lambda parts: "".join(parts).encode())
RECORD = st.builds(
    lambda level, message, logger, extra: (
        json.dumps(
            {
                "@timestamp": "2026-11-23T22:26:47.123456Z",
                "log.level": level,
                "message": message,
                "log.logger": logger,
                **({"extra": {"epoch": extra}} if extra else {}),
                "event.severity": 10,
            },
            ensure_ascii=False,
            separators=(",", ":"),
        )
        + "\n"
    ),
    st.sampled_from(["debug", "warning", "error", "custom"]),
    st.one_of(LINE, st.just('say "foo"\nbar \\foo')),
    st.sampled_from(["azure.core", "root", "foo"]),
    st.sampled_from([None, 3, "foo"]),
)
EVENTS = st.lists(RECORD, max_size=8).map(lambda parts: "".join(parts).encode())
TERM = st.sampled_from(
    [
        *("foo", "bar", "foobar", "o", "3", "lr_0", "x" * 140, "foo.bar", '"foo foo"', "root"),
        *("message", "level", "fo*", "*oo*", "*bar", "f*r", "level:error", "level:>=warning"),
        *("level:*", "logger:root", "logger:azure.core", "error", "rank:3", "rank:4"),
        *("größe", "ÜBUNG", "→", "*", "x" * 130 + "*", "extra.epoch:3", "extra.epoch:*"),
    ]
)
QUERY = st.recursive(
    TERM,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(" ".join),
        st.tuples(inner, inner).map(lambda pair: f"({pair[0]} OR {pair[1]})"),
        inner.map(lambda text: f"-({text})"),
    ),
    max_leaves=4,
)
CUTS = st.lists(st.integers(0, 400), max_size=4)


def check(blocks, data: bytes, cuts: list[int], kind: str, text: str) -> None:
    query = parse(text, NOW)
    assert not query.hints
    # A block never ends between a return and its newline: sealing knows the difference.
    cuts = [cut for cut in cuts if data[cut - 1 : cut] != b"\r"]
    stream = blocks(data, cuts, kind)
    expected = [line for line in lines_of(data, kind) if oracle(query.tree, line, kind)]
    assert expected == found(query, stream)
    matcher, proposal = query.bind(stream.facts), query.proposal()
    for block, view in stream.blocks:
        if matcher is not None and matcher.count(view):
            assert holds(proposal, block, stream.facts)


@settings(max_examples=200, deadline=None)
@given(data=TEXT, cuts=CUTS, text=QUERY)
def test_text_is_found_as_a_naive_reader_finds_it_and_every_match_is_proposed(
    blocks, data, cuts, text
):
    check(blocks, data, cuts, "text", text)


@settings(max_examples=150, deadline=None)
@given(data=EVENTS, cuts=CUTS, text=QUERY)
def test_records_are_found_as_a_naive_reader_finds_them_and_every_match_is_proposed(
    blocks, data, cuts, text
):
    check(blocks, data, cuts, "events", text)
