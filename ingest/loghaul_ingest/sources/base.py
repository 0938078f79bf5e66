"""The seam between the worker and where its chunks come from.

A source is a set of partitions. Within one the order counts; positions are tokens that only the
source understands. What a partition is: for a spool the directory of a writer, for Kafka a
partition of the topic. An epoch tells a partition that came back from what it was before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from loghaul.chunk import Chunk, Record


class Partition(NamedTuple):
    """A partition as long as it is ours: a name and epoch pair is never used again."""

    name: str
    epoch: int


class Assigned(NamedTuple):
    """From here on records of this partition come."""

    partition: Partition


class Revoked(NamedTuple):
    """No more records of it come; positions of it may not be committed any more."""

    partition: Partition


class Fetched(NamedTuple):
    """A record, or a chunk where the source is in the same process as what cut it.

    position    to be committed when this and all before it in its partition are durable; of
                records that others may have written a number that grows
    time_us     when the transport got it, microseconds; None where it does not say
    """

    partition: Partition
    position: Any
    record: Record | Chunk
    time_us: int | None = None


class Lost(NamedTuple):
    """Records of this partition are gone: what lay before its next one never comes."""

    partition: Partition
    reason: str


Event = Assigned | Revoked | Fetched | Lost


class Source(Protocol):
    """Used by one worker, from one thread. Errors are SourceError; all may be tried again."""

    async def fetch(self, max_bytes: int, timeout_seconds: float) -> Sequence[Event]:
        """Return what happened, in order: about `max_bytes` of records at most.

        Waits up to the timeout when there is nothing; then the empty sequence. With `max_bytes`
        of 0 the source is paused: no records come, but assignments do, and it stays alive.
        Fair: no partition keeps the others waiting. Memory does not grow with the backlog.
        """
        ...

    async def commit(self, positions: Mapping[Partition, Any]) -> None:
        """Make positions durable: after a restart records come from behind them.

        Those of partitions that are not ours any more are ignored.
        """
        ...

    async def close(self) -> None:
        """Give all partitions back. Commits nothing. Idempotent."""
        ...
