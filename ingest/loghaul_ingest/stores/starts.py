"""When the writers of streams started: whether what comes of a deleted run was begun after it.

A block does not say it; the question for its stream's extent did, or facts did. Of a stream of
which it is not known, or forgotten, blocks are refused where there is a tombstone: whoever wrote
them asks for the extent, and with that says it.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace

from loghaul.chunk import StreamKey
from loghaul_ingest.block import Facts

#: Streams whose start is remembered.
MOST_STREAMS = 100_000


def now_us() -> int:
    """Return the time that a tombstone carries."""
    return time.time_ns() // 1000


class Starts:
    """The starts that one writer of a store was told of. Safe for threads."""

    def __init__(self, most: int = MOST_STREAMS) -> None:
        self._most = most
        self._starts: OrderedDict[StreamKey, int] = OrderedDict()
        self._lock = threading.Lock()

    def learn(self, starts: Mapping[StreamKey, int]) -> None:
        """Remember starts, microseconds."""
        with self._lock:
            for key, started in starts.items():
                self._starts[key] = started
                self._starts.move_to_end(key)
            while len(self._starts) > max(self._most, len(starts)):
                self._starts.popitem(last=False)

    def set_right(self, facts: Facts) -> Facts:
        """Return facts that were guessed from a block with the start that was told, if it was."""
        with self._lock:
            return replace(facts, started=self._starts.get(facts.stream, facts.started))

    def buried(self, key: StreamKey, deleted: int | None) -> bool:
        """Whether a deletion at that time (None: there was none) holds for a stream."""
        if deleted is None:
            return False
        with self._lock:
            return self._starts.get(key, deleted) <= deleted
