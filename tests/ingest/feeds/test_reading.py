import asyncio

import pytest

from loghaul.chunk import Record, StreamKey
from loghaul.errors import TransportError
from loghaul_ingest.feeds import course as course_module
from loghaul_ingest.feeds.course import Course, candidates
from loghaul_ingest.feeds.mailbox import MAILBOX_BYTES, Mailbox
from loghaul_ingest.feeds.reading import LOOK_SECONDS, MISSED_SECONDS, STALL_SECONDS, Reading
from loghaul_ingest.feeds.unstored import unstored

KEY = StreamKey("run-1", "a" * 32, "stdout")


class Steps:
    """A reading of run-1 that is stepped by hand."""

    def __init__(self, topic):
        self.now, self.mailbox, self.course = 0.0, Mailbox(), Course()
        self.connection = topic.connect()
        self.reading = Reading(
            self.connection, self.course, "run-1", self.mailbox, clock=lambda: self.now
        )
        self._loop = asyncio.new_event_loop()

    def do(self, awaitable):
        return self._loop.run_until_complete(awaitable)

    def begin(self):
        self.do(self.reading.begin())
        return self

    def take(self):
        """Step; return the bytes that came."""
        self.do(self.reading.step())
        return [chunk.data for chunk in self.mailbox.take()]

    def close(self):
        self._loop.close()


@pytest.fixture
def steps(topic):
    made = Steps(topic)
    yield made
    made.close()


def test_chunks_of_the_run_come_and_nothing_of_others(topic, steps):
    steps.begin()
    topic.put("run-1", b"ours\n")
    topic.put("run-2", b"theirs\n", number=0)
    topic.partitions[0].append(Record(b"", b"of fluent bit", []))
    altered = topic.partitions[topic.put("run-1", b"fine", 5)]
    altered[-1] = altered[-1]._replace(value=b"f1ne")
    assert steps.take() == [b"ours\n"]


def test_it_is_current_when_what_was_there_at_the_beginning_was_read(topic, steps):
    topic.put("run-1", b"one\n")
    steps.begin()
    assert not steps.reading.current
    assert steps.take() == [b"one\n"]
    assert steps.reading.current


def test_what_is_stored_is_not_read_again(topic, steps):
    number = topic.put("run-1", b"one\n")
    topic.put("run-1", b"two\n", 4)
    topic.committed[number] = 1
    steps.begin()
    assert steps.take() == [b"two\n"]


def test_nothing_is_read_while_nobody_takes(topic, steps):
    steps.begin()
    half = b"x" * (MAILBOX_BYTES // 2)
    for number in range(4):
        topic.put("run-1", half, number * len(half))
        steps.do(steps.reading.step())
    assert len(steps.mailbox.take()) == 2
    assert len(steps.take()) == 2


def test_a_partition_that_is_left_off_is_read_again_for_a_stream_in_it(topic, steps, monkeypatch):
    monkeypatch.setattr(course_module, "LISTEN_BYTES", 10)
    steps.course._allowance = 10.0
    steps.begin()
    topic.put("run-2", b"much of another run\n", number=0)
    assert steps.take() == []
    assert steps.connection.resting == {0, 1, 2}
    number = topic.put("run-1", b"one\n")
    assert steps.take() == []
    topic.committed[number] = len(topic.partitions[number]) - 1
    steps.mailbox.follow(KEY, lambda: None)
    steps.take()
    assert steps.connection.resting == {0, 1, 2} - {number}
    assert steps.take() == [b"one\n"]


def test_a_stream_that_stayed_where_it_was_when_partitions_were_added_is_found(topic, steps):
    _, *before = candidates(KEY, 3)
    topic.put("run-1", b"one\n", number=before[0])
    topic.put("run-1", b"two\n", 4, number=before[0])
    topic.committed[before[0]] = 2
    steps.mailbox.follow(KEY, lambda: 1)
    steps.begin()
    steps.course.resting.add(before[0])
    steps.connection.rest([before[0]])
    topic.put("run-1", b"three\n", 8, number=before[0])
    assert steps.take() == []
    steps.mailbox.miss(KEY)
    steps.take()
    assert steps.connection.looked_for == [1]
    assert steps.take() == [b"three\n"]
    steps.now += 2 * MISSED_SECONDS
    steps.mailbox.miss(KEY)
    steps.take()
    assert steps.connection.looked_for == [1]


def test_without_the_groups_position_it_goes_back_to_what_a_block_notes(topic, steps):
    topic.tells = False
    topic.put("run-1", b"one\n")
    number = topic.put("run-1", b"two\n", 4)
    steps.begin()
    topic.put("run-1", b"three\n", 8)
    steps.mailbox.follow(KEY, lambda: 1)
    assert steps.take() == [b"three\n"]
    steps.mailbox.miss(KEY)
    steps.take()
    assert steps.connection.looked_for == []
    assert steps.take() == [b"two\n", b"three\n"]
    assert steps.course.homes == {KEY: number}


def test_partitions_that_are_added_are_read_from_their_beginning(topic, steps):
    steps.begin()
    topic.partitions.append([])
    topic.begins.append(0)
    topic.put("run-1", b"new\n", number=3)
    steps.now += LOOK_SECONDS
    assert steps.take() == []
    assert steps.take() == [b"new\n"]


def test_brokers_that_do_not_answer_end_it(topic, steps):
    steps.begin()
    steps.take()
    topic.failing = True
    with pytest.raises(TransportError):
        steps.take()


def test_records_that_wait_and_do_not_come_end_it(topic, steps):
    steps.begin()
    steps.connection.resting = {0, 1, 2}  # it stands still, and does not know
    topic.put("run-1", b"one\n")
    for _ in range(int(STALL_SECONDS / LOOK_SECONDS) - 1):
        steps.now += LOOK_SECONDS
        steps.take()
    steps.now += LOOK_SECONDS
    with pytest.raises(TransportError, match="records wait"):
        steps.take()


def test_runs_that_nobody_stored_are_told_the_latest_last(topic):
    number = topic.put("stored", b"x")
    topic.committed[number] = 1
    topic.put("young", b"x", number=0)
    old = topic.partitions[topic.put("old", b"x", number=1)]
    old[-1] = old[-1]._replace(headers=[*old[-1].headers, ("started", b"0")])
    topic.partitions[2].append(Record(b"", b"of fluent bit", []))
    assert asyncio.run(unstored(topic.connect(), 5.0)) == ["old", "young"]
    assert topic.connections[-1].closed
