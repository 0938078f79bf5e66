"""The worker process of a home: one at a time, by the lock HOME/worker/lock.

    serve(settings, until_idle_seconds)   work until stopped, or until nobody captures any more
    once(settings)                        take what is there, seal all of it, end
    catch_up(settings, timeout)           for reading commands: what was captured is stored after it

A reading command that finds the lock taken asks for a flush: it puts a file into HOME/worker/flush
and waits until it is gone. The worker removes it when everything that lay in the spool when it saw
the file is stored.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from loghaul.config import Settings
from loghaul.journal import Journal
from loghaul.spool import writers
from loghaul_ingest.backlog import Backlog
from loghaul_ingest.errors import IngestError, StoreError
from loghaul_ingest.flushes import Flushes
from loghaul_ingest.service import Service
from loghaul_ingest.sources.spool import SpoolSource
from loghaul_ingest.stack import stack
from loghaul_ingest.stores import open_reader, open_writer
from loghaul_ingest.watch import Watch, watching
from loghaul_ingest.writing import RETRYING

#: After so long without bytes the spool is looked at half as often.
QUIET_SECONDS = 5.0
#: How long `once` tries again what a store refuses.
STUCK_SECONDS = 10.0
#: How long `once` merges small blocks at its end.
COMPACT_SECONDS = 10.0


class Busy(IngestError):
    """Another process serves this home."""

    permanent = True


@dataclass(frozen=True)
class CaughtUp:
    """Whether everything captured before the call is stored; true in a condition when it is.

    reason   why not, and what happens next; "" when it is
    """

    complete: bool
    reason: str = ""

    def __bool__(self) -> bool:
        return self.complete


def serve(
    settings: Settings, until_idle_seconds: float | None = None, listen: str | None = None
) -> None:
    """Work until SIGTERM or SIGINT, or until no writer lived and nothing came for so long.

    `listen`: HOST:PORT where /metrics, /healthz and /readyz are served meanwhile.

    Raises Busy when another process serves this home, OSError when HOME cannot be written,
    StoreError when the store cannot be opened.
    """
    with (
        _lock(settings) as ours,
        watching(listen, Backlog(settings.spool, settings.spool_max_bytes)) as watch,
    ):
        asyncio.run(_Home(settings, ours, watch).serve(until_idle_seconds))


def once(settings: Settings, compact_seconds: float = COMPACT_SECONDS) -> None:
    """Take what is in the spool now, with the ends of abandoned writers; seal and store it all.

    Raises as `serve`.
    """
    with _lock(settings) as ours:
        asyncio.run(_Home(settings, ours).once(compact_seconds))


def catch_up(settings: Settings, timeout_seconds: float = 10.0) -> CaughtUp:
    """Return when all that was captured before the call is stored, or say what keeps it."""
    if not writers(settings.spool):
        return CaughtUp(True)
    until = time.monotonic() + timeout_seconds
    request: Path | None = None
    try:
        while True:
            try:
                with _lock(settings) as ours:
                    left = max(0.5, until - time.monotonic())
                    return asyncio.run(_Home(settings, ours).catch_up(left))
            except Busy:
                if request is None:
                    request = _request(settings)
                elif not request.exists():
                    return CaughtUp(True)
            if time.monotonic() > until:
                reason = _trouble(settings) or "the worker is still taking in what was captured"
                return CaughtUp(False, reason)
            time.sleep(0.01)
    except OSError as error:
        return CaughtUp(False, f"{settings.home} cannot be written: {error.strerror or error}")
    except StoreError as error:
        return CaughtUp(False, str(error))
    finally:
        if request is not None:
            request.unlink(missing_ok=True)


def _trouble(settings: Settings) -> str:
    """Return what the worker that serves is trying again, by its log; "" when it is well."""
    try:
        lines = (settings.home / "worker" / "log").read_bytes()[-16384:].splitlines()
        note = json.loads(lines[-1])
    except (OSError, ValueError, IndexError):
        return ""
    return str(note.get("error", "")) if note.get("message") == RETRYING else ""


def _request(settings: Settings) -> Path:
    folder = settings.home / "worker" / "flush"
    folder.mkdir(parents=True, exist_ok=True)
    request = folder / uuid.uuid4().hex
    request.touch()
    return request


@contextmanager
def _lock(settings: Settings) -> Iterator[Callable[[], bool]]:
    """Hold the home's lock; yields whether it still is the home's.

    A home may be removed and made anew under a worker. The new one has a lock of its own and a
    worker of its own; this one must not release a byte of it that it wrote to the removed store.
    """
    folder = settings.home / "worker"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / "lock"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(f"another worker serves {settings.home}") from None
        yield lambda: _is(path, fd)
    finally:
        os.close(fd)


def _is(path: Path, fd: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(fd))
    except OSError:
        return False


class _Home:
    """Source, store and worker of a home, for one event loop."""

    def __init__(
        self, settings: Settings, ours: Callable[[], bool], watch: Watch | None = None
    ) -> None:
        """`ours` tells whether the lock is still that of the home."""
        folder = settings.home / "worker"
        self._ours = ours
        note = Journal(folder / "log")
        self._source = SpoolSource(settings.spool, ours=ours, note=note)
        writer, self._reader = open_writer(settings.store), open_reader(settings.store)
        self._worker = stack(
            self._source,
            writer,
            self._reader,
            settings.home / "dead-letters",
            note=note,
            watch=watch,
        )
        closes = (self._source.close, writer.close)
        self._service = Service(settings, self._worker, note, closes, watch)
        self._flushes = Flushes(folder / "flush", self._source, self._worker.core)

    async def serve(self, until_idle_seconds: float | None) -> None:
        service = self._service
        service.begin(str(self._source.root))
        alive_at = time.monotonic()
        try:
            while not self._worker.stopping and self._ours():
                quiet = time.monotonic() - service.busy_at > QUIET_SECONDS
                await service.step(0.1 if quiet else 0.05)
                if self._flushes.step():
                    await self._worker.commit()
                now = time.monotonic()
                if self._source.live:
                    alive_at = now
                idle = now - max(service.busy_at, alive_at)
                if until_idle_seconds is not None and idle >= until_idle_seconds:
                    break
            await service.finish()
        finally:
            await self._close()

    async def once(self, compact_seconds: float) -> None:
        self._worker.tidies = False
        try:
            while not await self._take_in(time.monotonic() + STUCK_SECONDS):
                # Somebody waits for this in the foreground: better told than kept waiting.
                if problem := self._worker.failing:
                    await self._worker.finish(1.0)
                    raise StoreError(f"not all could be stored: {problem}")
            await self._worker.compact_all(compact_seconds)
            await self._service.finish()
        finally:
            await self._close()

    async def catch_up(self, timeout_seconds: float) -> CaughtUp:
        try:
            done = await self._take_in(time.monotonic() + timeout_seconds)
            await self._worker.finish(1.0)
        finally:
            await self._close()
        if done:
            return CaughtUp(True)
        reason = self._worker.failing or "there is more in the spool than this time was enough for"
        return CaughtUp(False, reason)

    async def _take_in(self, until: float | None) -> bool:
        """Store what is in the spool now; False when time was up before that."""
        flush = self._flushes.begin()
        while not flush.done:
            if until is not None and time.monotonic() > until:
                return False
            await self._worker.step(0.005)
            if self._flushes.step():
                await self._worker.commit()
        await self._worker.commit()
        return True

    async def _close(self) -> None:
        await self._service.close()
        self._reader.close()


__all__ = ["Busy", "CaughtUp", "catch_up", "once", "serve"]
