"""The spool of this machine as a feed: read as it grows, before a block is sealed.

Nothing is released, and nothing waits for a chunk to be full. What the worker released before it
was read here is in the store by then.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from loghaul.chunk import Chunk, StreamKey
from loghaul.errors import SpoolError
from loghaul.spool import lock
from loghaul.spool.cutter import Cutter
from loghaul.spool.format import START
from loghaul.spool.reader import SpoolReader

#: Between two looks.
LOOK_SECONDS = 0.05

_WRITER = re.compile(r"[0-9a-f]{32}")


class SpoolFeed:
    """See `base.Feed`. Opens what is there: a store that is read after this has all the rest."""

    settle_seconds = patience_seconds = 0.0
    live = current = True
    trouble = ""

    def __init__(self, root: Path, run: str) -> None:
        self._root, self._run = root, run
        self._open: dict[str, tuple[SpoolReader, Cutter]] = {}
        self._seen: set[str] = set()
        self.beginnings = 0
        self._discover()

    @property
    def expecting(self) -> bool:
        """See `base.Feed`: a writer that has written nothing yet has no stream either."""
        return bool(self._open)

    @property
    def abandoned(self) -> bool:
        """See `base.Feed`."""
        return any(lock.is_free(reader.directory) for reader, _ in self._open.values())

    def follow(self, stream: StreamKey, position: Callable[[], int | None]) -> None:
        """See `base.Feed`: all of the run is given."""

    def miss(self, stream: StreamKey) -> None:
        """See `base.Feed`: what is not here was released, and is in the store."""

    def take(self) -> Iterator[Chunk]:
        """See `base.Feed`."""
        self._discover()
        for writer, (reader, cutter) in list(self._open.items()):
            for chunk, _ in cutter.chunks(0, flush=True):
                yield chunk
            if reader.ended and cutter.idle:
                reader.close()
                del self._open[writer]
                # Its directory may have gone before its last segment was opened here.
                self.beginnings += 1

    def wait(self) -> None:
        """See `base.Feed`: nobody tells when a spool grows."""
        time.sleep(LOOK_SECONDS)

    def close(self) -> None:
        """See `base.Feed`. Nothing in the spool was changed."""
        for reader, _ in self._open.values():
            reader.close()
        self._open.clear()

    def _discover(self) -> None:
        """Open the writers of this run that were not there before."""
        try:
            names = os.listdir(self._root)
        except OSError:
            return
        for name in names:
            if name in self._seen or not _WRITER.fullmatch(name):
                continue
            try:
                # From what is still there on, not from what was released: less is asked for.
                reader = SpoolReader(self._root / name, START)
            except SpoolError as error:
                if error.permanent:
                    self._seen.add(name)
                continue
            self._seen.add(name)
            if reader.facts.get("run.id") == self._run:
                self._open[reader.id] = (reader, Cutter(reader))
            else:
                reader.close()
