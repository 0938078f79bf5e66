"""What the source makes of what aiokafka tells it, with a consumer that is played by hand."""

import asyncio
from types import SimpleNamespace

import pytest

pytest.importorskip("aiokafka")

from aiokafka.errors import KafkaTimeoutError
from aiokafka.structs import TopicPartition

from loghaul.transports.address import parse
from loghaul_ingest.errors import SourceError
from loghaul_ingest.sources.base import Assigned, Fetched, Lost, Partition, Revoked
from loghaul_ingest.sources.kafka import KafkaSource
from loghaul_ingest.sources.watchdog import Stalled


def place(number):
    return TopicPartition("logs", number)


class Consumer:
    """The part of aiokafka's consumer that the source uses."""

    def __init__(self):
        self.ready, self.begin, self.committed_at, self.end = [], {}, {}, {}
        self.commits, self.paused, self.share = [], [], set()

    def give(self, number, *offsets):
        records = [
            SimpleNamespace(offset=o, timestamp=7, key=b"k", value=b"v%d" % o, headers=())
            for o in offsets
        ]
        self.ready.append({place(number): records})

    async def getmany(self, timeout_ms=0, max_records=None):
        await asyncio.sleep(0)
        return self.ready.pop(0) if self.ready else {}

    async def commit(self, offsets):
        self.commits.append({key.partition: value.offset for key, value in offsets.items()})

    async def committed(self, key):
        return self.committed_at.get(key.partition)

    async def beginning_offsets(self, keys):
        return {key: self.begin.get(key.partition, 0) for key in keys}

    async def end_offsets(self, keys):
        return {key: self.end.get(key.partition, 0) for key in keys}

    async def position(self, key):
        return 0

    def highwater(self, key):
        return self.end.get(key.partition)

    def assignment(self):
        return {place(number) for number in self.share}

    def pause(self, *keys):
        self.paused.append(keys)

    def resume(self, *keys):
        pass

    async def stop(self):
        pass


class Bench:
    def __init__(self):
        self.now, self.notes = 1000.0, []
        self.source = KafkaSource(
            parse("kafka://h/logs"),
            "group",
            clock=lambda: self.now,
            note=lambda event, **fields: self.notes.append(event),
        )
        self.consumer = self.source._consumer = Consumer()

    def assign(self, *numbers):
        self.consumer.share = set(numbers)
        self.source.assigned(numbers)

    async def fetch(self, max_bytes=1000):
        return [event for _ in range(2) for event in await self.source.fetch(max_bytes, 0.01)]


@pytest.fixture
def bench():
    return Bench()


def test_a_partition_that_comes_back_is_another_and_its_old_positions_are_not_committed(bench):
    async def story():
        bench.assign(0)
        bench.consumer.give(0, 3, 4)
        first = await bench.fetch()
        bench.source.revoked([0])
        bench.assign(0)
        bench.consumer.give(0, 3)
        second = await bench.fetch()
        await bench.source.commit({first[0].partition: 4})
        await bench.source.commit({second[1].partition: 3})
        return first, second

    first, second = asyncio.run(story())
    assert [type(event) for event in first] == [Assigned, Fetched, Fetched]
    assert [type(event) for event in second] == [Revoked, Assigned, Fetched]
    assert second[0].partition == first[0].partition != second[1].partition
    assert bench.consumer.commits == [{0: 4}]


def test_offsets_that_jump_are_a_loss_only_where_the_topic_begins_behind_them(bench):
    async def story():
        bench.assign(0, 1)
        bench.consumer.committed_at = {0: 5, 1: 5}
        bench.consumer.begin = {0: 0, 1: 9}
        bench.consumer.give(0, 5, 8)
        bench.consumer.give(0, 12)
        bench.consumer.give(1, 9)
        return await bench.fetch()

    events = asyncio.run(story())
    lost = [event for event in events if isinstance(event, Lost)]
    assert [event.partition.name for event in lost] == ["logs/1"]
    assert events.index(lost[0]) < next(
        n for n, e in enumerate(events) if isinstance(e, Fetched) and e.position == 9
    )
    assert bench.notes.count("records expired unread") == 1


def test_where_nothing_was_committed_all_that_the_topic_has_no_more_is_a_loss(bench):
    """A commit may have been lost with its coordinator; what was stored all the same is no gap."""

    async def story():
        bench.assign(0, 1)
        bench.consumer.committed_at = {0: None, 1: None}
        bench.consumer.begin = {0: 0, 1: 9}
        bench.consumer.give(0, 0)
        bench.consumer.give(1, 9)
        return await bench.fetch()

    events = asyncio.run(story())
    assert [event.partition.name for event in events if isinstance(event, Lost)] == ["logs/1"]


def test_records_are_read_again_where_nobody_says_whether_some_expired(bench, monkeypatch):
    async def refuse(key):
        raise KafkaTimeoutError

    async def story():
        bench.assign(0)
        bench.consumer.give(0, 7)
        monkeypatch.setattr(bench.consumer, "committed", refuse)
        with pytest.raises(SourceError, match="expired unread is not known"):
            await bench.fetch()

    asyncio.run(story())
    assert (bench.source.share, bench.source.joined) == (frozenset(), False)


def test_what_a_position_passed_while_it_was_asked_for_is_not_yet_fetched(bench, monkeypatch):
    asked = asyncio.Event()

    async def getmany(timeout_ms=0, max_records=None):
        await asked.wait()
        return bench.consumer.ready.pop(0) if bench.consumer.ready else {}

    async def position(key):
        asked.set()
        await asyncio.sleep(0.01)
        return 1

    async def story():
        bench.assign(0)
        bench.consumer.give(0, 0)
        monkeypatch.setattr(bench.consumer, "getmany", getmany)
        monkeypatch.setattr(bench.consumer, "position", position)
        (assigned,) = await bench.source.fetch(1000, 0.01)
        ends = {assigned.partition: 1}
        early = await bench.source.reached(ends)
        events = await bench.source.fetch(1000, 0.01)
        return early, [type(event) for event in events], await bench.source.reached(ends)

    assert asyncio.run(story()) == (False, [Fetched], True)


def test_while_the_store_is_slow_no_record_comes_and_the_group_sees_us_alive(bench):
    async def story():
        bench.assign(0)
        bench.consumer.give(0, 1)
        held = list(await bench.source.fetch(0, 0.0))
        bench.now += 40
        held += await bench.source.fetch(0, 0.0)
        return held

    events = asyncio.run(story())
    assert [type(event) for event in events] == [Assigned]
    assert len(bench.consumer.paused) == 1


def test_records_that_wait_and_do_not_come_end_the_worker(bench):
    async def story():
        bench.assign(0)
        bench.consumer.give(0, 1)
        await bench.fetch()
        bench.consumer.end = {0: 2}
        bench.now += 500
        await bench.fetch()
        bench.consumer.end = {0: 50}
        bench.now += 500
        for _ in range(5):
            await bench.fetch()

    with pytest.raises(Stalled, match="48 records wait"):
        asyncio.run(story())


def test_records_that_wait_from_the_beginning_are_seen_too(bench):
    async def story():
        bench.assign(0)
        bench.consumer.committed_at, bench.consumer.end = {0: 5}, {0: 50}
        bench.now += 500
        for _ in range(5):
            await bench.fetch()

    with pytest.raises(Stalled, match="45 records wait"):
        asyncio.run(story())


def test_how_far_behind_it_is_is_told_by_partition(bench):
    async def story():
        bench.assign(0, 1)
        bench.consumer.end = {0: 10, 1: 10}
        bench.consumer.give(0, 1, 2)
        await bench.fetch()

    asyncio.run(story())
    assert bench.source.lag() == {"0": 7}
    assert bench.source.joined
    assert Partition("logs/0", 1) in bench.source._next
