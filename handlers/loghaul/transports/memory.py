"""A transport in memory that fails on purpose, for tests, yours included.

topic = MemoryTopic(partitions=3)
topic.fail_after(5)                    # the sixth record is not taken, once
ship(topic.connect, ...)
topic.records[0]
"""

from __future__ import annotations

import asyncio
from typing import Optional, Sequence

from loghaul.chunk import Record
from loghaul.errors import TransportError


class MemoryTopic:
    """Partitions, each a list of records.

    refusal      raised by `open` and `send` while it is set
    swallowed    what is taken, but whose acknowledgement gets lost; counted down
    """

    def __init__(self, partitions: int = 1) -> None:
        self.records: list[list[Record]] = [[] for _ in range(partitions)]
        self.refusal: Optional[TransportError] = None
        self.swallowed = 0
        self.connections = 0
        self.stuck = False
        self._left: Optional[int] = None

    def connect(self) -> MemoryTransport:
        """Return a transport to it."""
        return MemoryTransport(self)

    def fail_after(self, records: int) -> None:
        """Take so many more records, then fail once."""
        self._left = records

    def add_partitions(self, count: int) -> None:
        """Have more partitions."""
        self.records += [[] for _ in range(count)]

    def take(self, partition: int, record: Record) -> None:
        """Append a record. Raises TransportError where it was told to."""
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                self._left = None
                raise TransportError("failed on purpose")
        self.records[partition].append(record)


class MemoryTransport:
    """See `base.Transport`."""

    def __init__(self, topic: MemoryTopic) -> None:
        self.partitions, self.name = 0, "memory"
        self._topic = topic

    async def open(self) -> None:
        """See `base.Transport`."""
        self._topic.connections += 1
        if self._topic.refusal is not None:
            raise self._topic.refusal
        self.partitions = len(self._topic.records)

    async def send(self, partition: int, records: Sequence[Record]) -> None:
        """See `base.Transport`."""
        await asyncio.sleep(0)
        while self._topic.stuck:
            await asyncio.sleep(0.01)
        if self._topic.refusal is not None:
            raise self._topic.refusal
        for record in records:
            self._topic.take(partition, record)
        if self._topic.swallowed:
            self._topic.swallowed -= 1
            raise TransportError("the acknowledgement got lost on purpose")

    async def close(self) -> None:
        """See `base.Transport`."""
