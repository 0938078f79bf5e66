"""A source in memory: a broker with partitions and groups, for tests, yours included.

    broker = MemoryBroker(["a", "b"])
    broker.send("a", chunk)
    worker = Worker(broker.join(), MemoryStore().writer())

Everything that joined shares the partitions; whoever joins or leaves moves them. Nothing is
dropped: a partition that moves begins again behind what was committed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from loghaul.chunk import Chunk, Record, encode
from loghaul_ingest.sources.base import Assigned, Event, Fetched, Partition, Revoked


class MemoryBroker:
    """Partitions by name, each a list of records; positions are their numbers."""

    def __init__(self, names: Sequence[str]) -> None:
        self.records: dict[str, list[Record]] = {name: [] for name in names}
        self.committed: dict[str, int] = dict.fromkeys(names, -1)
        self._epoch = 0
        self._members: list[MemorySource] = []

    def send(self, name: str, item: Chunk | Record) -> int:
        """Append to a partition; return the position."""
        self.records[name].append(encode(item) if isinstance(item, Chunk) else item)
        return len(self.records[name]) - 1

    def join(self) -> MemorySource:
        """Return a source that shares the partitions with those that joined before."""
        self._members.append(MemorySource(self))
        self.rebalance()
        return self._members[-1]

    def leave(self, member: MemorySource) -> None:
        """Take a member out; its partitions go to the others."""
        if member in self._members:
            self._members.remove(member)
            member._assign(())
            self.rebalance()

    def rebalance(self) -> None:
        """Deal the partitions out anew, under a new epoch."""
        self._epoch += 1
        shares: list[list[Partition]] = [[] for _ in self._members]
        for number, name in enumerate(self.records if self._members else ()):
            shares[number % len(shares)].append(Partition(name, self._epoch))
        for member, share in zip(self._members, shares, strict=True):
            member._assign(share)


class MemorySource:
    """See `base.Source`."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker
        self._at: dict[Partition, int] = {}
        self._events: list[Event] = []

    async def fetch(self, max_bytes: int, timeout_seconds: float) -> Sequence[Event]:
        """See `base.Source`."""
        found = self._fetch(max_bytes)
        if not found and timeout_seconds:
            await asyncio.sleep(timeout_seconds)
            found = self._fetch(max_bytes)
        return found

    async def commit(self, positions: Mapping[Partition, Any]) -> None:
        """See `base.Source`."""
        for partition, position in positions.items():
            if partition in self._at:
                self._broker.committed[partition.name] = position

    async def close(self) -> None:
        """See `base.Source`."""
        self._broker.leave(self)

    def _fetch(self, max_bytes: int) -> list[Event]:
        found, self._events = self._events, []
        progress = True
        while progress and max_bytes > 0:
            progress = False
            for partition, at in self._at.items():
                records = self._broker.records[partition.name]
                if at < len(records) and max_bytes > 0:
                    found.append(Fetched(partition, at, records[at]))
                    max_bytes -= len(records[at].value)
                    self._at[partition] = at + 1
                    progress = True
        return found

    def _assign(self, share: Sequence[Partition]) -> None:
        self._events.extend(Revoked(partition) for partition in self._at)
        self._at = {partition: self._broker.committed[partition.name] + 1 for partition in share}
        self._events.extend(Assigned(partition) for partition in share)
