"""The hot path keeps what the longer way would have written, byte for byte."""

from __future__ import annotations

import logging
import re
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies

import loghaul
from alarms import interrupted, storm
from loghaul import event, hot
from loghaul.spool import SpoolReader


@pytest.fixture
def haul(tmp_path: Path, events_of):
    """A logger with one of our handlers; `.messages()` is what arrived."""

    class Haul:
        handler = loghaul.Handler(spool=tmp_path / "spool", home=tmp_path, run="r")
        outlet = handler._outlet
        log = logging.Logger("unit.test", 1)
        log.addHandler(handler)

        def messages(self):
            return [found["message"] for found in events_of(tmp_path / "spool")]

    made = Haul()
    yield made
    made.outlet.end("closed")


SIGNAL = re.compile(rb'"message":"signal (\d+)"')
TEXT = strategies.text(max_size=300)
TIMES = strategies.floats(0, 253_402_300_799, allow_nan=False)


@pytest.fixture(scope="module")
def following(tmp_path_factory):
    """A handler with a writer, and a reader that has read all of it so far."""
    folder = tmp_path_factory.mktemp("hot")
    handler = loghaul.Handler(spool=folder / "spool", home=folder, run="r")
    handler.handle(logging.makeLogRecord({"msg": "first"}))
    reader = SpoolReader(handler._outlet.writer.directory)
    reader.read()
    yield handler, reader
    reader.close()
    handler._outlet.end("closed")


@settings(max_examples=300, deadline=None)
@given(
    message=TEXT,
    name=TEXT,
    path=TEXT,
    level=strategies.integers(0, 60),
    created=TIMES,
    argument=strategies.one_of(TEXT, strategies.integers(), strategies.floats()),
)
def test_lines_in_parts_are_the_lines_of_the_longer_way(
    following, message, name, path, level, created, argument
) -> None:
    handler, reader = following
    record = logging.LogRecord(name, level, path, 7, message + "%s", (argument,), None, "f")
    record.msg = message.replace("%", "%%") + "%s"
    record.created = created
    expected = event.dump(event.fields(record))
    hot.take(record, handler._outlet)
    hot.take(record, handler._outlet)
    got = b"".join(entry.data for entry in reader.read())
    assert (expected * 2, []) == (got, [e for e in reader.read() if e.gap])


def test_a_plain_record_is_not_written_whole(haul, monkeypatch) -> None:
    for step in range(3):
        haul.log.debug("step %d", step)
        haul.log.info('of "%s"\n', "x")
        if not step:
            monkeypatch.setattr(event, "take_long", None)
    assert haul.messages() == ["step 0", 'of "x"\n', "step 1", 'of "x"\n', "step 2", 'of "x"\n']
    assert len(haul.outlet.writer._sites) == 2


def test_threads_and_signal_handlers_interleave_whole_lines(haul) -> None:
    count = depth = 0

    def handler():
        nonlocal count, depth
        if depth == 20:
            return  # signals come faster than they are taken: this is not about Python's stack
        depth += 1
        count += 1
        haul.log.info("signal %d", count)
        depth -= 1

    def work(name):
        for n in range(4000):
            haul.log.debug("%d %d", name, n)

    haul.log.debug("opens")
    threads = [threading.Thread(target=work, args=(name,)) for name in range(3)]
    with storm(handler):
        for thread in threads:
            thread.start()
        work(3)
        for thread in threads:
            thread.join()
    reader, data = SpoolReader(haul.outlet.writer.directory), b""
    while entries := reader.read():
        assert not any(entry.gap for entry in entries)
        data += b"".join(entry.data for entry in entries)
    lines = data.splitlines()
    assert count > 10
    assert len(lines) == 1 + 4 * 4000 + count
    told = {int(found[1]) for found in map(SIGNAL.search, lines) if found}
    assert told == set(range(1, count + 1))
    for name in range(4):
        mine = [line for line in lines if b'"message":"%d ' % name in line]
        assert [b'"message":"%d %d"' % (name, n) for n in range(4000)] == [
            line[line.index(b'"message"') : line.index(b',"log.logger"')] for line in mine
        ]


def test_interrupts_at_random_moments_break_nothing(haul) -> None:
    haul.log.debug("opens")
    interrupts = interrupted(lambda: haul.log.debug("line %s", "x" * 20), 200)
    haul.log.debug("end")
    messages = haul.messages()
    assert (interrupts, messages[-1]) == (200, "end")
    assert set(messages[1:-1]) == {"line " + "x" * 20}


def test_what_the_hot_path_knows_of_the_format_is_the_format() -> None:
    from loghaul.spool import format as theirs

    assert hot._pack_line(1.5, 2, 3) == theirs.LINE_COVERED.pack(1.5, 2, 3)
    assert theirs.HEADER_BYTES == hot._HEADER_BYTES
    assert theirs.MAX_PAYLOAD_BYTES == hot._MAX_PAYLOAD_BYTES
