"""The spool as a source: everything of every writer, fairly, with few files open."""

import asyncio
import os

import pytest

from clock import Clock
from loghaul.chunk import decode
from loghaul.spool import SpoolWriter
from loghaul_ingest.sources.base import Assigned, Fetched, Revoked
from loghaul_ingest.sources.spool import SpoolSource


@pytest.fixture
def clock():
    return Clock(100.0)


def capture(root, name, *parts, ended=True):
    writer = SpoolWriter(root, {"run.id": name})
    stream = writer.stream("stdout", "text", "out.txt")
    for part in parts:
        assert writer.append(stream, part)
    if ended:
        writer.end("exit", {"exit_code": 0})
        writer.close()
    return writer


def pull(source, clock, rounds=20, max_bytes=2**20):
    events = []
    for _ in range(rounds):
        events += asyncio.run(source.fetch(max_bytes, 0))
        clock.now += 0.2
    return events


def commit(source, events):
    positions = {e.partition: e.position for e in events if isinstance(e, Fetched)}
    asyncio.run(source.commit(positions))


def chunks(events):
    return [decode(e.record.value, e.record.headers) for e in events if isinstance(e, Fetched)]


def test_a_root_that_is_not_there_is_an_empty_source(tmp_path, clock):
    source = SpoolSource(tmp_path / "none", clock=clock)
    assert pull(source, clock) == []
    assert source.live == 0


def test_a_writer_that_ended_is_read_committed_and_removed(tmp_path, clock):
    capture(tmp_path, "run", b"one\n", b"two\n")
    source = SpoolSource(tmp_path, clock=clock)
    events = pull(source, clock)
    assert isinstance(events[0], Assigned)
    found = chunks(events)
    assert b"".join(chunk.data for chunk in found) == b"one\ntwo\n"
    assert found[-1].end.length == 8
    commit(source, events)
    assert os.listdir(tmp_path) == []
    assert [type(event) for event in pull(source, clock)] == [Revoked]
    assert source.live == 0


def test_what_was_not_committed_comes_again(tmp_path, clock):
    writer = capture(tmp_path, "run", b"one\n", ended=False)
    first = SpoolSource(tmp_path, clock=clock)
    commit(first, pull(first, clock))
    writer.append(0, b"two\n")
    assert [c.data for c in chunks(pull(first, clock))] == [b"two\n"]
    asyncio.run(first.close())
    again = chunks(pull(SpoolSource(tmp_path, clock=clock), clock))
    assert [(c.offset, c.data) for c in again] == [(4, b"two\n")]
    writer.close()


def test_a_live_writer_is_followed(tmp_path, clock):
    writer = capture(tmp_path, "run", b"one\n", ended=False)
    source = SpoolSource(tmp_path, clock=clock)
    assert [c.data for c in chunks(pull(source, clock))] == [b"one\n"]
    writer.append(0, b"two\n")
    assert [c.data for c in chunks(pull(source, clock))] == [b"two\n"]
    assert source.live == 1
    writer.close()


def test_many_writers_are_read_with_few_files_open(tmp_path, clock):
    for number in range(60):
        capture(tmp_path, f"run{number}", b"line %d\n" % number)
    live = capture(tmp_path, "live", b"first\n", ended=False)
    before = len(os.listdir("/proc/self/fd"))
    source = SpoolSource(tmp_path, max_open=4, clock=clock)
    seen, most = set(), 0
    for _ in range(300):
        events = pull(source, clock, 1)
        most = max(most, len(os.listdir("/proc/self/fd")) - before)
        seen |= {chunk.key.run for chunk in chunks(events)}
        commit(source, events)
    assert len(seen) == 61
    assert most <= 6
    assert os.listdir(tmp_path) == [live.id]
    live.close()


def test_a_new_live_writer_does_not_wait_for_an_old_backlog(tmp_path, clock):
    old = [
        capture(tmp_path, f"old{number}", *[b"x" * 9_999 + b"\n"] * 500, ended=False)
        for number in range(6)
    ]
    source = SpoolSource(tmp_path, max_open=2, clock=clock)
    pull(source, clock, 2, max_bytes=100_000)
    live = capture(tmp_path, "live", b"now\n", ended=False)
    rounds = 0
    while not any(c.key.run == "live" for c in chunks(pull(source, clock, 1, 100_000))):
        rounds += 1
        assert rounds < 60, "it was never its turn"
    for writer in (*old, live):
        writer.close()


def test_a_directory_that_cannot_be_read_is_reported_and_left_alone(tmp_path, clock):
    broken = tmp_path / ("0" * 32)
    broken.mkdir()
    (broken / "writer.json").write_text('{"format": 99}')
    capture(tmp_path, "run", b"one\n")
    notes = []
    source = SpoolSource(tmp_path, clock=clock, note=lambda event, **f: notes.append((event, f)))
    events = pull(source, clock)
    assert [c.data for c in chunks(events) if c.data] == [b"one\n"]
    assert any("newer loghaul" in fields.get("error", "") for _, fields in notes)
    commit(source, events)
    assert os.listdir(tmp_path) == [broken.name]


def test_it_tells_when_everything_of_a_moment_was_fetched(tmp_path, clock):
    writer = capture(tmp_path, "run", b"one\n", ended=False)
    source = SpoolSource(tmp_path, clock=clock)
    source.flush(True)
    moment = clock()
    assert not source.dry_since(moment)
    pull(source, clock, 3)
    assert source.dry_since(moment)
    later = clock()
    assert not source.dry_since(later)
    pull(source, clock, 3)
    assert source.dry_since(later)
    writer.close()
