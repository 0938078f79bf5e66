"""The spool of this node as a source: each writer's directory is a partition.

Fairness, bounds and what becomes of damaged directories are those of `loghaul.spool.rota`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from loghaul.chunk import encode
from loghaul.spool.rota import MAX_OPEN, Follower, Given, Rota
from loghaul_ingest.errors import SourceError
from loghaul_ingest.sources.base import Assigned, Event, Fetched, Partition, Revoked


class SpoolSource:
    """See `base.Source`; the root need not exist. `note` hears of what cannot be read."""

    def __init__(
        self,
        root: Path,
        *,
        max_open: int = MAX_OPEN,
        clock: Callable[[], float] = time.monotonic,
        note: Callable[..., None] = lambda event, **fields: None,
        ours: Callable[[], bool] = lambda: True,
    ) -> None:
        """`ours`: whether this spool may still be released from; asked before each commit."""
        self.root, self._ours = root, ours
        self._rota = Rota(root, max_open=max_open, clock=clock, note=note)
        self._assigned: dict[Partition, Follower] = {}
        self._flush = False

    # -- base.Source

    async def fetch(self, max_bytes: int, timeout_seconds: float) -> Sequence[Event]:
        """See `base.Source`."""
        events = self._fetch(max_bytes)
        if not events and timeout_seconds:
            await asyncio.sleep(timeout_seconds)
            events = self._fetch(max_bytes)
        return events

    async def commit(self, positions: Mapping[Partition, Any]) -> None:
        """See `base.Source`."""
        failed: OSError | None = None
        if not self._ours():
            raise SourceError("the home was removed: this spool belongs to another worker now")
        for partition, position in positions.items():
            follower = self._assigned.get(partition)
            if follower is None:
                continue
            try:
                follower.release(position)
            except OSError as error:
                failed = error
        if failed is not None:
            raise SourceError(f"a position of the spool cannot be kept: {failed}") from failed

    async def close(self) -> None:
        """See `base.Source`."""
        self._rota.close()

    # -- for the worker of a home

    def flush(self, on: bool) -> None:
        """Give also what is not a full chunk yet, as long as it is on."""
        self._flush = on

    def dry_since(self, moment: float) -> bool:
        """Whether everything that was in the spool at a moment of the clock has been fetched."""
        return self._rota.dry_since(moment)

    @property
    def live(self) -> int:
        """Directories that may still get bytes, or hold some that are not committed."""
        return self._rota.live

    # -- inside

    def _fetch(self, max_bytes: int) -> list[Event]:
        events: list[Event] = []
        for follower in self._rota.retire():
            if self._assigned.pop(_partition(follower), None) is not None:
                events.append(Revoked(_partition(follower)))
        for given in self._rota.read(max_bytes, self._flush):
            events.extend(self._events(given))
        return events

    def _events(self, given: Given) -> list[Event]:
        partition = _partition(given.follower)
        events: list[Event] = []
        if partition not in self._assigned:
            self._assigned[partition] = given.follower
            events.append(Assigned(partition))
        for chunk, position in given.chunks:
            # The one way that a chunk looks on its way, also where the way is short.
            events.append(Fetched(partition, position, encode(chunk)))
        return events


def _partition(follower: Follower) -> Partition:
    return Partition(follower.path.name, follower.number)
