"""A topic in memory, and connections to it as those of `feeds.connection`."""

import asyncio

import pytest

from loghaul.chunk import TEXT, Chunk, Mark, StreamKey, encode
from loghaul.errors import TransportError
from loghaul_ingest.feeds.connection import Bounds, Raw
from loghaul_ingest.feeds.course import candidates


class Topic:
    """Partitions of records; `committed` by the workers, `failing` when the brokers are away."""

    def __init__(self, count=3):
        self.partitions = [[] for _ in range(count)]
        self.begins = [0] * count
        self.committed = dict.fromkeys(range(count))
        self.recent = None
        self.tells = True
        self.failing = self.denied = False
        self.connections = []

    def put(self, run, data, offset=0, writer="a" * 32, stream="stdout", number=None, **more):
        """Append a chunk where its stream belongs; return its partition."""
        key = StreamKey(run, writer, stream)
        if number is None:
            number = candidates(key, len(self.partitions))[0]
        marks = (Mark(len(data), 1),) if data else ()
        record = encode(Chunk(key, TEXT, offset, data, marks, 1, {"role": "process"}, **more))
        self.partitions[number].append(record)
        return number

    def connect(self):
        self.connections.append(Connection(self))
        return self.connections[-1]


class Connection:
    """As `feeds.connection.Connection`."""

    address = "memory"

    def __init__(self, topic):
        self.topic, self.at, self.resting, self.closed = topic, {}, set(), False
        self.looked_for = []

    @property
    def count(self):
        return len(self.topic.partitions)

    async def open(self):
        self._answer()

    async def committed(self, numbers):
        return {n: self.topic.committed.get(n) for n in numbers} if self.topic.tells else None

    async def bounds(self, numbers, seconds):
        topic = self.topic
        ends = await self.ends(numbers)
        return {
            n: Bounds(topic.begins[n], ends[n], ends[n] if topic.recent is None else topic.recent)
            for n in numbers
        }

    def read(self, starts):
        self.at, self.resting = dict(starts), set()

    def seek(self, number, offset):
        self.at[number] = offset

    def rest(self, numbers):
        self.resting |= set(numbers)

    def wake(self, number, offset):
        self.seek(number, offset)
        self.resting.discard(number)

    async def records(self, seconds):
        self._answer()
        if self.topic.denied:
            raise TransportError("may not be read")
        found = {}
        for number in set(self.at) - self.resting:
            records = self.topic.partitions[number][self.at[number] :]
            if records:
                found[number] = [
                    Raw(self.at[number] + n, one.value, one.headers)
                    for n, one in enumerate(records)
                ]
                self.at[number] += len(records)
        if not found:
            await asyncio.sleep(0.001)
        return found

    async def position(self, number):
        return self.at[number]

    async def ends(self, numbers):
        self._answer()
        return {number: len(self.topic.partitions[number]) for number in numbers}

    async def holder(self, key, offset, numbers):
        self.looked_for.append(offset)
        for number in numbers:
            records = self.topic.partitions[number]
            if offset < len(records) and records[offset].key == key:
                return number
        return None

    async def close(self):
        self.closed = True

    def _answer(self):
        if self.topic.failing:
            raise TransportError("nobody answers")


@pytest.fixture
def topic():
    return Topic()
