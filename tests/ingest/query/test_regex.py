"""Regular expressions: lines are found as `re` finds them, and what is proposed is always there."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loghaul_ingest.query import parse, regex
from loghaul_ingest.query.proposal import holds
from loghaul_ingest.query.tree import Regex

NOW = 1_764_000_000_000_000
PIECE = st.sampled_from(
    [
        *("foo", "bar", " ", "o", "k", ".", r"\.", r"\d", r"\w", r"\s", r"\b", r"\W", "[a-f]", "-"),
        *(
            "(foo|bar)",
            "(?:a b)?",
            "+",
            "?",
            "*",
            "{2}",
            "{0,1}",
            "^",
            "$",
            "|",
            "_",
            "[^o]",
            "=",
            "(?i)",
        ),
        *("[[:alpha:]]", r"\pL", "ö", r"\S", "[]x]", r"[\]]", ".*"),
    ]
)
PATTERN = st.lists(PIECE, min_size=1, max_size=7).map("".join)
TEXT = st.lists(
    st.sampled_from(
        [
            "foo",
            "bar",
            "FOO",
            " ",
            " ",
            "o",
            "K",
            "\u212a",
            "ſ",
            ".",
            "a b",
            "3",
            "ö",
            "\n",
            "=",
            "-",
            "_",
        ]
    ),
    max_size=16,
).map(lambda parts: ("".join(parts) + "\n").encode())


@settings(max_examples=600, deadline=None)
@given(PATTERN, TEXT, st.booleans())
def test_every_line_that_matches_has_the_words_that_are_proposed(blocks, pattern, data, ignore):
    query = parse(f"/{pattern}/{'i' if ignore else ''}", NOW)
    if not isinstance(query.tree, Regex):
        return
    stream = blocks(data)
    matcher = query.bind(stream.facts)
    for block, view in stream.blocks:
        spans = matcher.spans(view)
        assert matcher.count(view) == len(spans)
        lines = [view.text(span) for span in spans]
        assert [line for line in data.split(b"\n")[:-1] if _matches(query.tree, line)] == lines
        if lines:
            assert holds(query.proposal(), block, stream.facts)


def _matches(tree: Regex, line: bytes) -> bool:
    return regex.compiled(tree.pattern, tree.ignore_case).search(line) is not None


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (r"step \d+ of", []),
        (r" step \d+ of ", [b"step", b"of"]),
        (r"\bCUDA\b", [b"cuda"]),
        (r"a foo b", [b"foo"]),
        (r"a foo+ b", []),
        (r"a\s+foo\s+b", [b"foo"]),
        (r"a foo|bar b", []),
        (r"a (foo) b", []),
        (r"^foo bar", [b"foo"]),
        (r"[[:alpha:]]foo b", []),
        (r"\Qa foo b\E", []),
    ],
)
def test_only_words_that_are_certain_are_proposed(pattern, expected):
    assert expected == regex.required_words(pattern, False)


def test_an_expression_cannot_be_made_to_hang(blocks):
    stream = blocks(b"a" * 5000 + b"!\n")
    began = time.process_time()
    assert parse("/(a+)+$/", NOW).bind(stream.facts).spans(stream.blocks[0][1]) == []
    parse("a*a*a*a*b", NOW).bind(stream.facts).spans(stream.blocks[0][1])
    assert time.process_time() - began < 2


def test_no_match_crosses_the_end_of_a_line(blocks):
    stream = blocks(b"foo\nbar\nfoo bar\n")
    for text, expected in (("/foo[^x]bar/", 1), ("/foo\\sbar/", 1), ("/(?s)foo.bar/", 1)):
        assert expected == parse(text, NOW).bind(stream.facts).count(stream.blocks[0][1])


def test_without_re2_lines_are_found_the_same(blocks, monkeypatch):
    stream = blocks(b"foo 1\nbar\n\nfoo 22\nfoo")
    queries = ("/foo \\d+/", "/^$/", "/o$/", "/^foo/", "/x*/", "/[^b]/")
    found = [_texts(parse(text, NOW), stream) for text in queries]
    monkeypatch.setattr(regex, "re2", None)
    from loghaul_ingest.query import matcher

    matcher._matcher.cache_clear()
    assert found == [_texts(parse(text, NOW, backtracking=True), stream) for text in queries]
    matcher._matcher.cache_clear()
    assert re.search("foo", "foo")


def _texts(query, stream):
    matcher = query.bind(stream.facts)
    return [view.text(span) for _, view in stream.blocks for span in matcher.spans(view)]


def test_an_expression_sees_records_without_the_escapes_of_json(blocks):
    record = (
        b'{"@timestamp":"2026-11-23T22:26:47.123456Z","log.level":"info","message":"say \\"hi\\" '
        b'C:\\\\dir","log.logger":"root","event.severity":20}\n'
    )
    stream = blocks(b"".join((record, record.replace(b"hi", b"ho"), record)), (), "events")
    for text in ('/say "hi"/', '/"hi" C:.dir/'):
        query = parse(text, NOW)
        assert query.bind(stream.facts).count(stream.blocks[0][1]) == 2, text
        assert holds(query.proposal(), stream.blocks[0][0], stream.facts)
