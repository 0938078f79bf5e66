"""Where blocks end: at an event's end where there is one, whatever the pieces were."""

import random

import pytest

from loghaul.chunk import Mark
from loghaul_ingest import lines
from loghaul_ingest.block import MAX_BYTES, MAX_HEAD_BYTES, MAX_LINES
from loghaul_ingest.growing import Beginning, Growing, Limits

SMALL = Limits(block_bytes=40, block_lines=4, age_us=100)


def fed(growing, *pieces, now_us=0):
    cuts = []
    for piece in pieces:
        growing.append(piece, [Mark(len(piece), now_us)], now_us)
        cuts += growing.cut_full()
    return cuts


def test_a_block_ends_behind_its_256th_line():
    line = b"x" * 99 + b"\n"
    cuts = fed(Growing("text", 0), line * (2 * MAX_LINES + 10))
    assert [cut.data for cut in cuts] == [line * MAX_LINES] * 2


def test_a_block_ends_at_the_last_line_that_fits_into_its_size():
    line = b"x" * 999 + b"\n"
    (cut,) = fed(Growing("text", 0), line * 70)
    assert len(cut.data) == 65 * 1000


def test_a_line_without_an_end_is_cut_by_size_and_its_beginning_goes_along():
    growing = Growing("text", 0)
    cuts = fed(growing, b"a\n" + b"x" * (2 * MAX_BYTES), b"end\nb")
    assert [len(cut.data) for cut in cuts] == [2, MAX_BYTES, MAX_BYTES]
    assert cuts[2].head == Beginning(b"x" * MAX_HEAD_BYTES, MAX_BYTES, 0)
    (last,) = growing.cut_all()
    assert (last.data, last.head.length) == (b"end\nb", 2 * MAX_BYTES)
    assert growing.head == Beginning(b"b", 1, 0)


def test_an_old_unfinished_line_is_sealed_as_it_stands_and_a_young_one_waits():
    growing = Growing("text", 0, limits=SMALL)
    fed(growing, b"one\ntw", now_us=0)
    fed(growing, b"o", now_us=50)
    assert growing.cut_aged(-1) == []
    (cut,) = growing.cut_aged(10)
    assert cut.data == b"one\ntwo"
    growing = Growing("text", 0, limits=SMALL)
    fed(growing, b"one\n", now_us=0)
    fed(growing, b"two", now_us=50)
    (cut,) = growing.cut_aged(10)
    assert (cut.data, growing.length, growing.since_us) == (b"one\n", 3, 50)


def test_a_carriage_return_waits_for_the_next_byte_but_not_for_ever():
    growing = Growing("text", 0, limits=SMALL)
    fed(growing, b"10%", now_us=0)
    fed(growing, b"\r", now_us=50)
    (cut,) = growing.cut_aged(10)
    assert (cut.data, growing.length) == (b"10%", 1)
    (cut,) = growing.cut_aged(60)
    assert (cut.data, cut.head.data) == (b"\r", b"10%")
    assert growing.head == Beginning()


def test_a_blob_is_cut_by_size_alone():
    cuts = fed(Growing("blob", 0), b"\n" * (MAX_BYTES + 5))
    assert [len(cut.data) for cut in cuts] == [MAX_BYTES]


def test_what_begins_right_behind_is_taken_over():
    first, second = Growing("text", 0, limits=SMALL), Growing("text", 3, limits=SMALL)
    fed(first, b"abc", now_us=7)
    fed(second, b"def", now_us=3)
    first.absorb(second)
    (cut,) = first.cut_all(ended=True)
    assert (cut.data, cut.marks, cut.ended) == (b"abcdef", (Mark(3, 7), Mark(3, 3)), True)


@pytest.mark.parametrize("kind", ["text", "events", "blob"])
def test_any_pieces_give_the_same_bytes_in_blocks_within_bounds(kind):
    for seed in range(300):
        source = random.Random(f"{kind}{seed}")
        data = bytes(source.choices(b"abcde\n\r\n", k=source.randrange(400)))
        growing, at, cuts, now = Growing(kind, 0, limits=SMALL), 0, [], 0
        while at < len(data):
            piece = data[at : at + source.randrange(1, 60)]
            now += source.randrange(60)
            cuts += fed(growing, piece, now_us=now)
            if source.random() < 0.3:
                cuts += growing.cut_aged(now - 100)
            at += len(piece)
        cuts += growing.cut_all(ended=True)
        assert b"".join(cut.data for cut in cuts) == data
        for cut in cuts[:-1]:
            assert len(cut.data) <= SMALL.block_bytes
            events = lines.count(cut.data, kind, more=False)
            assert events <= SMALL.block_lines
            assert sum(mark.length for mark in cut.marks) == len(cut.data)
            before = data[: cut.offset]
            whole = lines.last_end(before, kind, more=False)
            assert cut.head.length == (0 if kind == "blob" else len(before) - whole)
