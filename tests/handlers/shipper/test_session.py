"""Shipping step by step, over a topic in memory that fails on purpose."""

import os

import pytest

from loghaul.errors import TransportError
from loghaul.shipper.session import IN_FLIGHT_BYTES, STALL_SECONDS
from loghaul.spool import SpoolReader


def lines(count, width=40):
    return [b"%0*d\n" % (width, number) for number in range(count)]


def test_all_of_a_writer_that_ended_arrives_in_order_and_its_folder_goes(bench):
    parts = lines(5000)
    bench.capture(parts=parts)
    bench.run()
    assert bench.streams() == {"run/stdout": b"".join(parts)}
    assert bench.left() == []
    assert bench.counts.records == sum(len(row) for row in bench.topic.records)


def test_a_live_writer_is_followed_and_keeps_its_folder(bench):
    writer = bench.capture(parts=[b"one\n"], ended=False)

    def write_once(session):
        if bench.counts.records == 1:
            writer.append(0, b"two\n")

    bench.run(each=write_once)
    assert bench.streams()["run/stdout"].startswith(b"one\ntwo\n")
    assert len(bench.left()) == 1


def test_nothing_is_released_before_it_is_acknowledged(bench):
    bench.capture(parts=lines(20_000, 99))
    (folder,) = bench.left()
    before = sorted(os.listdir(folder))
    bench.topic.stuck = True
    bench.run(rounds=10)
    assert set(before) == set(os.listdir(folder)) - {"route.json"}
    bench.topic.stuck = False
    bench.run()
    assert bench.left() == []


def test_after_a_failure_the_next_session_sends_again_what_was_not_released(bench):
    parts = lines(40_000, 99)
    bench.capture(parts=parts)
    for taken in (0, 1, 2, 5, 3):
        bench.topic.fail_after(taken)
        with pytest.raises(TransportError, match="on purpose"):
            bench.run()
    bench.run()
    assert bench.streams() == {"run/stdout": b"".join(parts)}
    assert bench.left() == []


def test_an_acknowledgement_that_gets_lost_costs_a_repeat_and_nothing_else(bench):
    parts = lines(9000)
    bench.capture(parts=parts)
    bench.topic.swallowed = 1
    with pytest.raises(TransportError, match="got lost"):
        bench.run()
    bench.run()
    assert bench.streams() == {"run/stdout": b"".join(parts)}
    assert sum(len(c.data) for row in bench.chunks() for c in row) > sum(map(len, parts))


def test_segments_are_freed_while_their_writer_lives(bench):
    writer = bench.capture(parts=lines(30_000, 99), ended=False)
    (folder,) = bench.left()
    before = len(list(folder.glob("*.segment")))
    bench.run()
    assert len(list(folder.glob("*.segment"))) == 1 < before
    reader = SpoolReader(folder)
    assert reader.read() == []
    reader.close()
    writer.close()


def test_a_backlog_of_any_size_is_on_its_way_in_bounded_pieces(bench):
    for _ in range(4):
        bench.capture(parts=lines(60_000, 99))
    bench.topic.stuck = True
    most = []
    bench.run(rounds=20, each=lambda session: most.append(session.in_flight))
    assert 0 < max(most) <= 1.5 * IN_FLIGHT_BYTES


def test_new_lines_do_not_stand_behind_an_old_backlog(bench):
    for number in range(30):
        bench.capture(f"old{number}", lines(30_000, 99))
    live = []

    def arrive(session):
        if not live:
            live.append(bench.capture("live", [b"now\n"], ended=False))

    with_live = []
    bench.run(
        rounds=12,
        max_open=4,
        each=lambda session: (arrive(session), with_live.append("live/stdout" in bench.streams())),
    )
    assert True in with_live
    assert any(path for path in bench.left() if path.name != live[0].id)


def test_a_stream_stays_in_its_partition_when_partitions_are_added(bench):
    writer = bench.capture(parts=[b"one\n"], ended=False)
    bench.run()
    (before,) = [number for number, row in enumerate(bench.chunks()) if row]
    bench.topic.add_partitions(40)
    for number in range(20):
        writer.append(0, b"line %d\n" % number)
        bench.run(rounds=5)
    assert [number for number, row in enumerate(bench.chunks()) if row] == [before]
    bench.capture("new", [b"new\n"])
    for _ in range(12):
        bench.capture("new", [b"new\n"])
    bench.run()
    assert max(number for number, row in enumerate(bench.chunks()) if row) > 3


def test_a_topic_that_was_made_anew_with_fewer_partitions_takes_the_rest(bench):
    writer = bench.capture(parts=[b"one\n"], ended=False)
    bench.run()
    bench.topic.records = [[]]
    writer.append(0, b"two\n")
    bench.run()
    assert [(c.offset, c.data) for c in bench.chunks()[0]] == [(4, b"two\n")]


def test_the_end_of_a_writer_that_was_killed_is_written_and_shipped(bench):
    writer = bench.capture(parts=[b"last words"], ended=False)
    writer.close()
    bench.run()
    chunks = [chunk for row in bench.chunks() for chunk in row]
    assert [chunk.end.cause for chunk in chunks if chunk.end] == ["lost"]
    assert bench.streams() == {"run/stdout": b"last words"}
    assert bench.left() == []


def test_a_transport_that_acknowledges_nothing_ends_the_session(bench):
    bench.capture(parts=[b"one\n"])
    bench.topic.stuck = True

    def wait(session):
        bench.clock.now += STALL_SECONDS / 4

    with pytest.raises(TransportError, match="no acknowledgement"):
        bench.run(each=wait)
