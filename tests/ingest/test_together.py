"""Blocks counted together give what each of them gives alone."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from loghaul.chunk import EVENTS, TEXT, Mark, StreamKey
from loghaul_ingest.block import Facts
from loghaul_ingest.query import parse
from loghaul_ingest.query.matcher import Matcher
from loghaul_ingest.query.predicate import bind_tree
from loghaul_ingest.seal import seal
from loghaul_ingest.search.together import Together
from loghaul_ingest.view import View

PARTS = (b"word", b"Word", b" ", b"\n", b"\r", b"\r\n", b"\x1b[1m", b"\x1b]0;", b"\x07", b"\\n")
PARTS = (*PARTS, b'{"message":"', b"message", b'"}\n', b"\xff", b"_", b"\\u001b[0m", b"xy")
FORMS = ("word", '"word xy"', "wo*", "*ord", "message", '"word message"', "w*d", "absent")
LINES = st.lists(st.sampled_from(PARTS), max_size=12).map(b"".join)


def views(kind, parts):
    facts = Facts(StreamKey("run", "0" * 32, "out"), kind, 1, {})
    offset, found = 0, []
    for data in parts:
        block = seal(facts, offset, data, (Mark(len(data), 1),))
        found.append(View(facts, block.head, block.data, block.marks))
        offset += len(data)
    return found


@given(
    st.sampled_from((TEXT, EVENTS)),
    st.lists(LINES.map(lambda line: line + b"\n"), min_size=1, max_size=6),
    st.lists(st.sampled_from(FORMS), min_size=1, max_size=6),
)
def test_blocks_of_whole_lines_count_together_as_they_do_one_by_one(kind, parts, forms):
    blocks = views(kind, parts)
    asked = [bind_tree(parse(form).tree, blocks[0].facts) for form in forms]
    pairs = [(view, Matcher(asked[n % len(asked)])) for n, view in enumerate(blocks)]
    together, total = Together(), 0
    for view, matcher in pairs:
        assert together.takes(view, matcher)
        total += together.add(view, matcher)

    assert total + together.count() == sum(matcher.count(view) for view, matcher in pairs)
    assert together.count() == 0


def test_a_block_that_begins_or_ends_within_a_line_is_counted_alone():
    word = Matcher(parse("word").tree)
    whole, cut = views(TEXT, (b"a word\n", b"half a wo"))
    rest = View(whole.facts, replace(whole.head, head=9), b"rd\n", (), b"half a wo")

    assert Together.takes(whole, word)
    assert not Together.takes(cut, word)
    assert not Together.takes(rest, word)
    assert not Together.takes(whole, Matcher(parse("-word").tree))
    assert not Together.takes(whole, Matcher(parse("level:error word").tree))
