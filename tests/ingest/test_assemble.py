"""The arithmetic of the assembler in its single steps; what orders do is in the simulation."""

import pytest

from loghaul.chunk import Chunk, End, Gap, Mark, StreamKey
from loghaul_ingest.assemble import Assembler
from loghaul_ingest.block import Extent
from loghaul_ingest.growing import NOTHING, Beginning, Limits
from loghaul_ingest.ranges import Ranges
from loghaul_ingest.stack import seal_cut

KEY = StreamKey("run", "0" * 32, "stdout")
LIMITS = Limits(block_bytes=64, block_lines=8, age_us=1000)


def chunk(offset, data=b"", end=None, gaps=()):
    marks = (Mark(len(data), 5),) if data else ()
    return Chunk(KEY, "text", offset, data, marks, 1, {"run.id": "run"}, end, gaps)


def known(extent=None, head=NOTHING, at=0, **options):
    """An assembler that knows what is stored of the stream."""
    core = Assembler(seal_cut, LIMITS, **options)
    core.assigned("p")
    core.fetched("p", 0, chunk(0), 0)
    (ask,) = core.asks()
    core.learned(ask, extent or Extent(), at, head, 0)
    if write := core.take(1000):
        core.written(write.number)
    core.commits()
    return core


def taken(core):
    write = core.take(10_000)
    return write, [(b.head.offset, b.data) for b in write.batch.blocks] if write else []


def test_nothing_is_written_before_it_is_known_what_is_stored():
    core = Assembler(seal_cut, LIMITS)
    core.assigned("p")
    core.fetched("p", 1, chunk(0, b"one\n"), 0)
    core.flush()
    assert core.take(1000) is None
    (ask,) = core.asks()
    assert core.asks() == []
    core.learned(ask, Extent(), 0, NOTHING, 0)
    core.flush()
    assert taken(core)[1] == [(0, b"one\n")]


def test_of_a_chunk_that_overlaps_what_is_stored_only_the_rest_is_written():
    core = known(Extent(10, ((4, 2),)))
    core.fetched("p", 1, chunk(2, b"23456789ab"), 0)
    core.flush()
    assert taken(core)[1] == [(4, b"45"), (10, b"ab")]
    assert core.counts.repeated_bytes == 6


def test_the_loser_of_a_start_goes_on_where_the_winner_ended():
    core = known()
    core.fetched("p", 1, chunk(0, b"one\ntwo\nthree\n"), 0)
    core.flush()
    write, _ = taken(core)
    core.written(write.number, [write.batch.blocks[0].head.key])
    assert core.commits() == {}
    (ask,) = core.asks()
    core.learned(ask, Extent(6), 6, Beginning(b"tw", 2, 5), 0)
    core.flush()
    write, blocks = taken(core)
    assert blocks == [(6, b"o\nthree\n")]
    assert write.batch.blocks[0].head.head == 2
    core.written(write.number)
    assert core.commits() == {"p": 1}


def test_a_question_answered_late_does_not_make_bytes_on_their_way_go_twice():
    core = known()
    core.fetched("p", 1, chunk(0, b"one\n"), 0)
    core.flush()
    first, _ = taken(core)
    core.fetched("p", 2, chunk(4, b"two\n"), 0)
    core.flush()
    second, _ = taken(core)
    core.written(second.number, [second.batch.blocks[0].head.key])
    (ask,) = core.asks()
    core.fetched("p", 3, chunk(0, b"one\ntwo\n"), 0)
    core.learned(ask, Extent(8, ((0, 4),)), 8, NOTHING, 0)
    core.flush()
    assert taken(core)[1] == []
    core.written(first.number)
    assert core.commits() == {"p": 3}


def test_a_position_waits_for_all_that_was_fetched_before_it():
    core = known()
    core.fetched("p", 1, chunk(0, b"one\n"), 0)
    core.flush()
    first, _ = taken(core)
    core.fetched("p", 2, chunk(4, b"two\n"), 0)
    core.flush()
    second, _ = taken(core)
    core.written(second.number)
    assert core.commits() == {}
    core.written(first.number)
    assert core.commits() == {"p": 2}


def test_bytes_that_fill_a_hole_end_where_the_next_block_begins():
    core = known(Extent(20, ((4, 6),)))
    core.fetched("p", 1, chunk(4, b"a\nbcde"), 0)
    core.flush()
    write, blocks = taken(core)
    assert blocks == [(4, b"a\nbcde")]
    assert write.batch.blocks[0].head.lines == 2


def test_a_line_before_a_gap_is_over_and_the_gap_is_in_the_facts():
    core = known()
    core.fetched("p", 1, chunk(0, b"one\ntw"), 0)
    core.fetched("p", 2, chunk(9, gaps=(Gap(6, 3, "spool full"),)), 0)
    core.fetched("p", 3, chunk(9, b"three\n"), 0)
    core.flush()
    write, blocks = taken(core)
    assert blocks == [(0, b"one\ntw"), (9, b"three\n")]
    assert [block.head.lines for block in write.batch.blocks] == [2, 1]
    assert write.batch.facts[0].gaps == (Gap(6, 3, "spool full"),)


def test_the_end_of_a_stream_seals_everything_and_counts_its_last_line():
    core = known()
    core.fetched("p", 1, chunk(0, b"one\ntwo"), 0)
    core.fetched("p", 2, chunk(7, end=End(7, 9, "exit", None, {})), 0)
    write, blocks = taken(core)
    assert blocks == [(0, b"one\ntwo")]
    assert write.batch.blocks[0].head.lines == 2
    assert write.batch.facts[0].end.length == 7
    core.written(write.number)
    core.tick(1)
    assert core.compactable() == KEY
    assert core.settled


@pytest.mark.parametrize("written", [True, False])
def test_an_ended_stream_is_merged_although_its_directory_was_given_back(written):
    core = known()
    core.fetched("p", 1, chunk(0, b"one\n", End(4, 9, "exit", None, {})), 0)
    write, _ = taken(core)
    if written:
        core.written(write.number)
    core.revoked("p")
    core.tick(1)
    assert core.compactable() == (KEY if written else None)
    assert core.compactable() is None


def test_a_missing_range_is_waited_for_before_it_is_a_gap():
    core = known(patience_us=500)
    core.fetched("p", 1, chunk(4, b"two\n", End(8, 9, "exit", None, {})), 100)
    assert taken(core)[0].batch.facts[0].gaps == ()
    core.tick(700)
    assert taken(core)[0].batch.facts[0].gaps == (Gap(0, 4, "never arrived"),)


def test_a_line_is_sealed_when_it_is_old():
    core = known()
    core.fetched("p", 1, chunk(0, b"one\n"), 100)
    core.tick(1099)
    assert core.take(1000) is None
    core.tick(1100)
    assert taken(core)[1] == [(0, b"one\n")]


def test_open_blocks_are_sealed_early_when_together_they_are_too_large():
    core = Assembler(seal_cut, Limits(age_us=10**9, open_bytes=100))
    core.assigned("p")
    for number in range(4):
        key = KEY._replace(stream=str(number))
        core.fetched("p", number, chunk(0, b"x" * 30)._replace(key=key), number)
    for ask in core.asks():
        core.learned(ask, Extent(), 0, NOTHING, 0)
    core.tick(10)
    assert len(taken(core)[1]) == 3
    assert core.open_bytes == 30


def test_what_is_known_is_forgotten_when_a_partition_is_revoked():
    core = known()
    core.fetched("p", 1, chunk(0, b"one\n"), 0)
    core.flush()
    write, _ = taken(core)
    core.revoked("p")
    core.written(write.number)
    assert (core.commits(), core.held_bytes, core.settled) == ({}, 0, True)
    core.assigned("q")
    core.fetched("q", 1, chunk(0, b"one\n"), 0)
    assert [ask.stream for ask in core.asks()] == [KEY]


def test_an_idle_stream_is_forgotten_and_asked_for_again():
    core = known()
    assert core.forget_idle(0) == 1
    core.fetched("p", 1, chunk(0, b"one\n"), 5)
    assert len(core.asks()) == 1


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [(0, 3, [(0, 3)]), (5, 9, []), (0, 30, [(0, 4), (10, 20), (25, 30)]), (24, 26, [(25, 26)])],
)
def test_ranges_tell_what_is_missing(start, end, expected):
    ranges = Ranges([(20, 25), (4, 6), (6, 10)])
    assert list(ranges) == [(4, 10), (20, 25)]
    assert ranges.missing(start, end) == expected
    assert ranges.covers(start, end) == (not expected)


def test_what_lacks_before_the_first_chunk_after_a_loss_is_a_gap_with_the_reason():
    core = known(Extent(4))
    core.lost("p", "expired")
    core.fetched("p", 1, chunk(10, b"later\n"), 0)
    core.flush()
    write, blocks = taken(core)
    assert blocks == [(10, b"later\n")]
    assert [facts.gaps for facts in write.batch.facts] == [(Gap(4, 6, "expired"),)]


def test_a_loss_is_told_also_of_a_stream_that_was_not_known_yet():
    core = Assembler(seal_cut, LIMITS)
    core.assigned("p")
    core.lost("p", "expired")
    core.fetched("p", 1, chunk(10, b"later\n"), 0)
    (ask,) = core.asks()
    core.learned(ask, Extent(6), 10, NOTHING, 0)
    core.flush()
    write, _ = taken(core)
    assert [facts.gaps for facts in write.batch.facts] == [(Gap(6, 4, "expired"),)]


def test_a_hole_without_a_loss_is_waited_for_and_a_loss_counts_once():
    core = known(Extent(4))
    core.fetched("p", 1, chunk(10, b"later\n"), 0)
    core.flush()
    write, _ = taken(core)
    assert all(not facts.gaps for facts in write.batch.facts)
    core.lost("p", "expired")
    core.fetched("p", 2, chunk(16, b"end\n"), 0)
    core.fetched("p", 3, chunk(30, b"more\n"), 0)
    core.flush()
    write, _ = taken(core)
    assert write.batch.facts[-1].gaps == (Gap(4, 6, "expired"),)
