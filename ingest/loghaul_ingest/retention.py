"""Retention: which runs go and why, and the worker's part that removes them now and then.

    rules = Rules.of(settings)
    plan(reader.runs(), reader.sizes(), rules, now_us)    what would go, the oldest end first
    await remove(dsn, removals)                           it goes
    Retention(settings, note).step()                      both once an hour, in a thread

Counted is from the end of a run: one that is still going on never goes, nor does one that nobody
can read. A run that vanished ("lost") ended with its last byte. Several workers may do it at once:
what one has removed the others find gone, in `runs` and in `sizes`.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from loghaul.config import Settings
from loghaul_ingest.errors import StoreError
from loghaul_ingest.runs import summarise
from loghaul_ingest.shell import Note
from loghaul_ingest.stores import open_reader, open_writer
from loghaul_ingest.stores.base import Reader, RunRow

AGE, SIZE = "age", "size"

#: Between two passes over the store, of all workers that share a home.
EVERY_SECONDS = 3600.0
#: Between looks at whether one is due. The first is so long after a worker's start, too.
LOOK_SECONDS = 10.0
#: A worker that ends waits so long for a pass that is under way.
PATIENCE_SECONDS = 5.0

#: An earlier end (the year 2020) was told by a clock that nobody had set: its age is not known.
_EARLIEST_US = 1_577_836_800_000_000
_DAY_US = 86_400_000_000
#: Runs that a note names.
_NAMED = 100


class Rules(NamedTuple):
    """What makes a run go; None: nothing does."""

    older_than_us: int | None = None
    larger_than_bytes: int | None = None

    @classmethod
    def of(cls, settings: Settings) -> Rules:
        """Return the rules that the settings give."""
        days = settings.retention_days
        return cls(None if days is None else days * _DAY_US, settings.retention_bytes)

    def __bool__(self) -> bool:
        return self != (None, None)


class Removal(NamedTuple):
    """A run that is to go. `reason`: AGE, or SIZE; `bytes`: what the store holds of it."""

    row: RunRow
    reason: str
    bytes: int


class Removed(NamedTuple):
    """What went, and why the first of those that did not go stayed ("": nothing failed)."""

    removals: Sequence[Removal]
    problem: str = ""


def plan(
    rows: Iterable[RunRow], sizes: Mapping[str, int], rules: Rules, now_us: int
) -> list[Removal]:
    """Return the runs that have to go, those that ended first first."""
    left = sum(sizes.values())
    removals = []
    for row, ended in sorted(_ended(rows), key=lambda pair: (pair[1], pair[0].run)):
        size = sizes.get(row.run, 0)
        if rules.older_than_us is not None and _EARLIEST_US < ended < now_us - rules.older_than_us:
            reason = AGE
        elif rules.larger_than_bytes is not None and left > rules.larger_than_bytes and size:
            reason = SIZE
        else:
            continue
        removals.append(Removal(row, reason, size))
        left -= size
    return removals


def _ended(rows: Iterable[RunRow]) -> Iterable[tuple[RunRow, int]]:
    return ((row, row.ended) for row in rows if row.ended is not None)


async def remove(
    dsn: str, removals: Sequence[Removal], stopping: Callable[[], bool] = lambda: False
) -> Removed:
    """Delete runs, but for those that went on since they were looked at.

    Raises StoreError where the store cannot be opened; one run that cannot be deleted leaves the
    others to be.
    """
    done, problem = [], ""
    writer = open_writer(dsn)
    reader = open_reader(dsn)
    try:
        for one in removals:
            if stopping():
                break
            try:
                if _has_gone_on(reader, one.row) or not await writer.delete_run(one.row.run):
                    continue
            except StoreError as error:
                problem = problem or f"run {one.row.run} cannot be removed: {error}"
                continue
            done.append(one)
    finally:
        await writer.close()
        reader.close()
    return Removed(done, problem)


def _has_gone_on(reader: Reader, row: RunRow) -> bool:
    streams = reader.streams(row.run)
    return bool(streams) and summarise(streams).ended != row.ended


class Retention:
    """Applies the settings of a worker. `step` and `close` are the event loop's."""

    def __init__(self, settings: Settings, note: Note, now: Callable[[], float] = time.time):
        """`now`: seconds since the epoch. The passes of all workers of a home have their time in
        the file HOME/worker/retention.
        """
        #: Runs removed by this process, by reason; bytes in the store after the last pass.
        self.removed: Counter[str] = Counter({AGE: 0, SIZE: 0})
        self.store_bytes: int | None = None
        self._store, self._rules = settings.store, Rules.of(settings)
        self._note, self._now = note, now
        self._stamp = settings.home / "worker" / "retention"
        self._looked_at = now()
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._found: tuple[Removed, int] | Exception | None = None

    def step(self) -> None:
        """Begin a pass when one is due; report one that has ended. Costs nothing else."""
        if self._thread is not None:
            if not self._thread.is_alive():
                self._thread = None
                self._report()
        elif self._rules and abs(self._now() - self._looked_at) >= LOOK_SECONDS:
            self._looked_at = self._now()
            if self._claim():
                self._thread = threading.Thread(
                    target=self._work, name="loghaul-retention", daemon=True
                )
                self._thread.start()

    async def close(self) -> None:
        """End a pass after the run that it is at; what it has not removed the next one does."""
        self._stopping = True
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, PATIENCE_SECONDS)
            self.step()

    def _claim(self) -> bool:
        """Take the next pass; False where it is not due, or another process has taken it."""
        now = self._now()
        try:
            fd = os.open(self._stamp, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                found = os.fstat(fd)
                # A file without a byte was made just now: the first pass has not been.
                if found.st_size and abs(now - found.st_mtime) < EVERY_SECONDS:
                    return False
                os.pwrite(fd, b"\n", 0)
                os.utime(fd, (now, now))
                return True
            finally:
                os.close(fd)
        except BlockingIOError:
            return False
        except OSError as error:
            self._note("retention cannot be applied", error=str(error))
            return False

    # In the thread.

    def _work(self) -> None:
        try:
            self._found = self._pass()
        except Exception as error:  # noqa: BLE001 - the worker goes on, whatever this meets
            self._found = error

    def _pass(self) -> tuple[Removed, int]:
        reader = open_reader(self._store)
        try:
            rows, sizes = reader.runs(), reader.sizes()
        finally:
            reader.close()
        removals = plan(rows, sizes, self._rules, int(self._now() * 1e6))
        # With nothing to remove too: a store clears up behind earlier removals when it is opened.
        removed = asyncio.run(remove(self._store, removals, lambda: self._stopping))
        return removed, sum(sizes.values()) - sum(one.bytes for one in removed.removals)

    # On the loop again.

    def _report(self) -> None:
        found, self._found = self._found, None
        if isinstance(found, tuple):
            (removals, problem), self.store_bytes = found
            self.removed.update(one.reason for one in removals)
            if removals:
                self._note(
                    "runs removed",
                    count=len(removals),
                    bytes=sum(one.bytes for one in removals),
                    store_bytes=self.store_bytes,
                    runs={one.row.run: one.reason for one in removals[:_NAMED]},
                )
        else:
            problem = str(found)
        if problem:
            self._note("retention failed, trying again in an hour", error=problem)
