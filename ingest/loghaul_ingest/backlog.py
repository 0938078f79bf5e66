"""What waits in the spool of this node: bytes on disk, and how long the oldest one has waited.

Measured when somebody asks, from the files alone, so that it costs whoever writes or ships
nothing, and can be told by any process of the node.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from loghaul.errors import SpoolError
from loghaul.spool import SpoolReader, writers
from loghaul.spool.budget import usage

#: An answer is good for so long, and takes about so long at most.
KEPT_SECONDS, LOOK_SECONDS = 2.0, 0.5


class Waiting(NamedTuple):
    """What waits.

    bytes            on disk, of all segments; the last one of a live writer counts as a whole
    writers          directories
    oldest_seconds   since the arrival of the oldest byte that was not moved on; 0: there is none
    """

    bytes: int
    writers: int
    oldest_seconds: float


class Backlog:
    """The backlog of a spool; the root need not exist. For use by several threads."""

    def __init__(
        self,
        root: Path,
        max_bytes: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`max_bytes`: the bound of the spool, for whoever wants to know how full it is."""
        self.root, self.max_bytes = root, max_bytes
        self._clock, self._now = clock, now
        self._looked_at = float("-inf")
        self._found = Waiting(0, 0, 0.0)

    def look(self) -> Waiting:
        """Return what waits now, or did a moment ago."""
        if self._clock() - self._looked_at >= KEPT_SECONDS:
            found = writers(self.root)
            oldest = self._oldest(found)
            age = max(0.0, self._now() - oldest / 1e6) if oldest is not None else 0.0
            self._found = Waiting(usage(self.root), len(found), age)
            self._looked_at = self._clock()
        return self._found

    def _oldest(self, directories: list[Path]) -> int | None:
        """Return when the oldest waiting byte came, microseconds; the oldest writers are first,
        so what is left out when time is up is most likely younger.
        """
        until, oldest = self._clock() + LOOK_SECONDS, None
        for directory in directories:
            first = first_waiting(directory)
            if first is not None and (oldest is None or first < oldest):
                oldest = first
            if self._clock() > until:
                break
        return oldest


def first_waiting(directory: Path) -> int | None:
    """Return when the first byte behind a writer's released position arrived; None: none is."""
    try:
        reader = SpoolReader(directory)
    except (SpoolError, OSError):
        return None
    try:
        while True:
            before = reader.position
            entries = reader.read(1)
            if entries or reader.position == before:
                return entries[0].time_us if entries else None
    except (SpoolError, OSError):
        return None
    finally:
        reader.close()
