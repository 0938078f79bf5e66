"""Whatever is typed or pasted is a query that means what a person means by it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loghaul_ingest.query import parse, tree
from loghaul_ingest.query.tree import (
    And,
    Every,
    Field,
    Level,
    Not,
    Or,
    Phrase,
    Regex,
    Text,
    Time,
    Wild,
    Within,
)
from loghaul_ingest.query.values import Equals, Exists, Glob, Range

NOW = 1_764_000_000_000_000  # 2025-11-24T16:00:00Z
MINUTE = 60_000_000


def words(*texts: str) -> tree.Tree:
    parts = tuple(Phrase(tuple(word.encode() for word in text.split())) for text in texts)
    return parts[0] if len(parts) == 1 else And(parts)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Every()),
        ("  ", Every()),
        ("*", Every()),
        ('""', Every()),
        ('"', Text('"')),
        ("foo", words("foo")),
        ("Foo BAR", words("foo", "bar")),
        ("foo AND bar", words("foo", "bar")),
        ('"foo  bar"', words("foo bar")),
        ("foo.bar-baz", words("foo bar baz")),
        ("lr=3.2e-05", words("lr 3 2e 05")),
        ("torch.cuda.OutOfMemoryError", words("torch cuda outofmemoryerror")),
        ("-foo", Not(words("foo"))),
        ("NOT foo", Not(words("foo"))),
        ("NOT NOT foo", words("foo")),
        ("a OR b c", Or((words("a"), words("b", "c")))),
        ("(a OR b) c", And((Or((words("a"), words("b"))), words("c")))),
        ("-(a OR b)", Not(Or((words("a"), words("b"))))),
        ("pre*", Wild("pre*")),
        ("*sub*", Wild("*sub*")),
        ("torch.cuda*", Wild("torch.cuda*")),
        ("größe", Text("größe")),
        ("=>", Text("=>")),
        ("a => b", words("a", "b")),
        ("/a \\d+/", Regex("a \\d+")),
        ("/ab/i", Regex("ab", True)),
        ("level:error", Level(frozenset({"error"}))),
        ("level:WARN", Level(frozenset({"warning"}))),
        ("level:*", Level(None)),
        ("level:(error OR info)", Level(frozenset({"error", "info"}))),
        ("node:a", Field("run.node", Equals("a"))),
        ("run:a", Field("run.id", Equals("a"))),
        ("file:70*", Field("log.file.path", Glob("70*", True))),
        ("tag.team:vision", Field("labels.team", Equals("vision"))),
        ("rank:>=3", Field("run.rank", Range("3", None))),
        ("rank:<3", Field("run.rank", Range(None, "3", True, False))),
        ("rank:[1 TO 3}", Field("run.rank", Range("1", "3", True, False))),
        ("extra.loss:*", Field("extra.loss", Exists())),
        ("rank:(1 OR 2)", Or((Field("run.rank", Equals("1")), Field("run.rank", Equals("2"))))),
        ('logger:"a b"', Field("log.logger", Equals("a b"))),
        ("error.type:ValueError", Field("error.type", Equals("ValueError"))),
        ("message:foo.bar", Within("message", Phrase((b"foo", b"bar")))),
        ("since:10m", Time(NOW - 10 * MINUTE, None)),
        ("until:now-1h", Time(None, NOW - 60 * MINUTE)),
        ("time:>=2025-11-24T15:50", Time(NOW - 10 * MINUTE, None)),
        ("time:[15:50 TO 16:00}", Time(NOW - 10 * MINUTE, NOW)),
        ("time:15:50", Time(NOW - 10 * MINUTE, NOW - 9 * MINUTE)),
        # What people paste
        ("[rank0]: NCCL WARN", words("rank0", "nccl", "warn")),
        ('unbalanced "quote', words("unbalanced", "quote")),
        ("(foo", words("foo")),
        ("foo)", words("foo")),
        ("field:", words("field")),
        ("level:", words("level")),
        ("Epoch: 3 [640/60000 (1%)]", words("epoch", "3", "640 60000", "1")),
        ("https://host/x", words("https host x")),
        ("10:22:33 ERROR", words("10 22 33", "error")),
        ('{"a": "b"}', words("a", "b")),
        ("/usr/lib/python", words("usr lib python")),
        ("--lr 0.1", words("lr", "0 1")),
        ("foo(bar, baz)", words("foo bar", "baz")),
        ("OR", words("or")),
        ("a OR", words("a", "or")),
        ("host: unreachable", words("host", "unreachable")),
        ("\x1b[31mred\x1b[0m", words("red")),
        ("since:banana", words("since banana")),
        ("a" * 200, words("a" * 200)),
    ],
)
def test_a_query_means(text, expected):
    assert expected == parse(text, NOW).tree


@pytest.mark.parametrize(
    "text", ['unbalanced "quote', "(foo", "level:", "since:banana", "/a(/", "level:>=strange"]
)
def test_what_is_not_understood_is_said_in_a_hint(text):
    assert parse(text, NOW).hints


def test_an_understood_query_has_no_hint():
    for text in ("foo", "[rank0]: NCCL WARN", "https://host/x", "level:error -(a OR b)", "a => b"):
        assert parse(text, NOW).hints == ()


def test_a_regular_expression_needs_the_engine_that_cannot_be_made_to_hang(monkeypatch):
    monkeypatch.setattr("loghaul_ingest.query.regex.re2", None)
    refused = parse("/a b/", NOW)
    assert words("a", "b") == refused.tree
    assert "google-re2" in refused.hints[0]
    assert Regex("a b") == parse("/a b/", NOW, backtracking=True).tree


def test_deep_and_long_text_is_no_danger():
    for text in ("(" * 5000 + "a" + ")" * 5000, "-" * 5000 + "a", "NOT " * 5000, "a OR " * 5000):
        parse(text, NOW)
    parse('"' * 5001, NOW)
    parse("/" * 5001, NOW)
    parse("level:" * 2000, NOW)


HOSTILE = st.lists(
    st.one_of(
        st.sampled_from(
            [
                *('"', "(", ")", "[", "]", "{", "}", "/", "-", ":", "*", " ", "\\", "\n", "\x1b["),
                *("OR", "AND", "NOT", " OR ", " TO ", "level:", "rank:", "since:", "time:"),
                *("message:", "extra.a:", ">=", "<", "error", "10m", "now", "2025-11-24", "foo"),
                *("é", "\udc80", "\ud800", "\0", "\r", "\u2028", "ß", "İ", "99999999999999999999"),
            ]
        ),
        st.text(max_size=4),
    ),
    max_size=14,
).map("".join)


@settings(max_examples=700, deadline=None)
@given(HOSTILE)
def test_no_text_makes_the_parser_fail_and_every_tree_reads_as_itself(text):
    query = parse(text, NOW)
    query.proposal()
    query.highlights("foo error é")
    written = str(query.tree)
    assert query.tree == parse(written, NOW).tree, written


@pytest.mark.parametrize(
    ("text", "shown", "expected"),
    [
        ("foo", "a Foo, foobar foo", ["Foo", "foo"]),
        ('"foo bar"', "foo bar foo-bar foobar", ["foo bar", "foo-bar"]),
        ("foo -bar", "foo bar", ["foo"]),
        ("fo*", "foo fob of", ["foo", "fob"]),
        ("*oo*", "a foobar", ["foobar"]),
        ("a OR b", "a b c", ["a", "b"]),
        ("/o+/", "foo ö oo", ["oo", "oo"]),
        ("größe", "GRÖSSE Größe", ["Größe"]),
        ("message:foo", "foo", ["foo"]),
        ("level:error", "error", []),
        ("*", "foo", []),
    ],
)
def test_what_was_searched_for_is_highlighted(text, shown, expected):
    spans = parse(text, NOW).highlights(shown)
    assert expected == [shown[start:end] for start, end in spans]


def test_a_name_that_is_nearly_a_field_is_text_with_a_hint():
    (hint,) = parse("lvl:error").hints
    assert "did you mean level:" in hint
    assert parse("Epoch: 3 https://host/x 10:22:33").hints == ()
