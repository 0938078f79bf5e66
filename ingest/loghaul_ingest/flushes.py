"""Flushes: store, before anything else, all that lies in the spool at a moment.

Asked for by files in a directory (by other processes) or by `begin`. A flush is done when the
source has run dry once since the moment, and everything fetched until then is durable; then its
files are removed, which is what the others wait for.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Protocol

from loghaul_ingest.assemble import Assembler


class Drying(Protocol):
    """What a flush needs of a source."""

    def flush(self, on: bool) -> None:
        """Give also what is not a full chunk yet."""

    def dry_since(self, moment: float) -> bool:
        """Whether all that was there at a moment was fetched."""


class Flush:
    """One flush under way."""

    def __init__(self, moment: float, names: tuple[str, ...]) -> None:
        self.moment = moment
        self.names = names
        self.mark: dict[Hashable, int] | None = None
        self.done = False


class Flushes:
    """All flushes of a worker; `step` after each of the worker's."""

    def __init__(
        self,
        folder: Path,
        source: Drying,
        core: Assembler,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder, self._source, self._core, self._clock = folder, source, core, clock
        self._under_way: list[Flush] = []

    def begin(self, names: tuple[str, ...] = ()) -> Flush:
        """Ask for a flush of all that is there now."""
        flush = Flush(self._clock(), names)
        self._under_way.append(flush)
        return flush

    def step(self) -> bool:
        """Take new requests, go on with those under way, answer those that are done.

        Returns whether one is under way: committing at once brings it on.
        """
        self._take_requests()
        drying = [flush for flush in self._under_way if flush.mark is None]
        for flush in drying:
            if self._source.dry_since(flush.moment):
                flush.mark = self._core.mark()
        self._source.flush(any(flush.mark is None for flush in drying))
        if not self._under_way:
            return False
        self._core.flush()
        for flush in list(self._under_way):
            if flush.mark is not None and self._core.is_past(flush.mark):
                flush.done = True
                self._under_way.remove(flush)
                self._answer(flush)
        return bool(self._under_way)

    def _take_requests(self) -> None:
        known = {name for flush in self._under_way for name in flush.names}
        try:
            names = tuple(name for name in os.listdir(self._folder) if name not in known)
        except OSError:
            return
        if names:
            self.begin(names)

    def _answer(self, flush: Flush) -> None:
        for name in flush.names:
            (self._folder / name).unlink(missing_ok=True)
