"""Where a process puts its records: one writer and one stream in the spool, made at the first one.

An outlet never raises into its caller, prints, or blocks (unless the user chose a blocking spool).
A fork's child starts a writer of its own with its first record; what cannot be written is counted
in `health`. What a signal handler logs while the spool is being opened, or while the modules that
open it are half imported, is held until that is done. `DEFAULT` is the outlet of the tap and of
every handler without settings of its own.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import time
import weakref
from threading import RLock
from typing import Any, Callable, Optional

from loghaul import event, health
from loghaul.config import Settings, load
from loghaul.moment import microseconds

#: A spool that could not be opened is tried again after this long, then twice that, ...
RETRY_SECONDS, MAX_RETRY_SECONDS = 1.0, 60.0

#: Most that is held of records that came while the spool was being opened.
MAX_HELD_BYTES = 2**20

#: An outlet with a writer is kept until its end, whatever becomes of its handler.
_open: set[Outlet] = set()
_outlets: weakref.WeakSet[Outlet] = weakref.WeakSet()
_own_run: dict[str, str] = {}


class Outlet:
    """One destination. Settings are read when the first record comes, never before.

    append, log    of the writer, or what stands in for them; neither raises
    calm           the writer, where `loghaul.hot` may write to it itself
    merging        True while a message and its arguments are merged: what their code logs sees it
    """

    def __init__(self, **overrides: Any) -> None:
        self.overrides = overrides
        self.writer: Any = None
        self.role = ""
        self.append: Callable[[int, bytes, int, int], Any]
        self.log: Callable[[int, Any, float, bytes, int], Any]
        self.stream = 0
        self._ended = False
        self._prepare()
        _outlets.add(self)

    def _prepare(self) -> None:
        self.append, self.log = self._first, self._first_line
        self.writer = None
        self.merging = False
        self.calm: Any = None
        self._opening = self._torn = False
        self._held: list[tuple[bytes, int, int]] = []
        self._held_bytes = 0
        self._again: Optional[Callable[[], None]] = None
        self._before = ""
        self._lock = RLock()
        self._retry_at, self._retry_seconds = 0.0, RETRY_SECONDS

    def put(self, line: bytes, time_us: int, severity: int) -> None:
        """Keep a line that is not made of a log record. Never raises."""
        self.append(self.stream, line, time_us, severity)

    def _first(self, stream: int, line: bytes, time_us: int, severity: int) -> bool:
        """Stands in for the writer's own append until there is a writer."""
        with self._lock:
            if self._opening or not self.open():
                return self._hold(line, time_us, severity)
            accepted = bool(self.append(self.stream, line, time_us, severity))
            if self._ended:
                # Logged behind the end of the process's run: a writer of its own, ended at once.
                self.end("exit")
            return accepted

    def _hold(self, line: bytes, time_us: int, severity: int) -> bool:
        """Keep a record that came in the middle of opening, for when that is done."""
        if not (self._opening or self._torn) or self._held_bytes + len(line) > MAX_HELD_BYTES:
            health.note("record lost without a spool")
            return False
        self._held.append((line, time_us, severity))
        self._held_bytes += len(line)
        _open.add(self)
        return True

    def _release(self) -> None:
        """Put into the spool what was held. A signal handler may add to it meanwhile."""
        while self._held:
            self.append(self.stream, *self._held.pop(0))
        self._held_bytes = 0

    def _first_line(
        self, stream: int, site: Any, created: float, message: bytes, severity: int
    ) -> bool:
        """Stands in for the writer's own `log`."""
        line = site.line(created, message)
        return self._first(stream, line, microseconds(created), severity)

    def open(self) -> bool:
        """Make writer and stream if there is none; False while that fails."""
        with self._lock:
            if self.writer is not None:
                return True
            if self._opening or time.monotonic() < self._retry_at:
                return False
            self._opening, self._torn = True, False
            try:
                # At the end of an interpreter nothing can be imported any more.
                (self._again or self._open)()
            except ImportError as error:
                # Called by a signal handler that came amid an import: whole at the next record.
                self._torn = not sys.is_finalizing()
                health.note("spool cannot be opened", error)
                return False
            except Exception as error:  # noqa: BLE001 - whatever it is, the script goes on
                health.note("spool cannot be opened", error)
                self._retry_at = time.monotonic() + self._retry_seconds
                self._retry_seconds = min(2 * self._retry_seconds, MAX_RETRY_SECONDS)
                return False
            finally:
                self._opening = False
            self._release()
            return True

    def _open(self) -> None:
        from loghaul import hot
        from loghaul.spool.appender import HOLDERS, ONE_STEP
        from loghaul.spool.budget import Limits
        from loghaul.spool.writer import SpoolWriter

        settings = load(strict=False, **self.overrides)
        health.use_home(settings.home)
        for problem in settings.problems:
            health.note("setting", problem)
        limits = Limits(settings.spool_max_bytes, settings.spool_reserve_bytes, settings.spool_full)
        HOLDERS[hot.take.__code__] = "writer"

        def begin() -> None:
            known = facts(settings)
            if self._before:
                # What is logged behind the end belongs to it, and is no attempt of its own.
                known.update(role="process", parent=self._before)
            writer = SpoolWriter(settings.spool, known, limits=limits)
            self.role, self._before = known["role"], self._before or writer.id
            self._begin(writer, writer if ONE_STEP else None)

        begin()
        self._again = begin

    def _begin(self, writer: Any, calm: Any) -> None:
        path = f"logs/azureml/{os.getpid()}_azureml.log"
        self.stream = writer.stream(path, "events", path)
        self.writer, self.calm = writer, calm
        self.append, self.log = writer.append, writer.log
        _open.add(self)
        if not self._ended:
            _end_in_multiprocessing(self)

    def end(self, cause: str, detail: Optional[dict[str, Any]] = None) -> None:
        """Write the end of the stream and close the writer; without a writer there is none."""
        with self._lock:
            if self._held and not self.open():
                for _ in self._held:
                    health.note("record lost without a spool")
                self._held.clear()
            writer, self._ended = self.writer, True
            self.append, self.log, self.writer = self._first, self._first_line, None
            self.calm = None
            _open.discard(self)
        try:
            if writer is not None and not writer.forked:
                writer.end(cause, detail or {})
                writer.close()
        except Exception as error:  # noqa: BLE001 - called while the interpreter shuts down
            health.note("end of a stream not written", error)

    def finish(self, cause: str, detail: dict[str, Any]) -> None:
        """End the stream, and take nothing until `restart`."""
        self.end(cause, detail)
        self.append = self.log = _drop

    def restart(self, **overrides: Any) -> None:
        """Take records again, with these settings, in a new stream."""
        if self.writer is not None:
            self.end("closed")
        self.overrides, self._ended = overrides, False
        self._prepare()

    def forked(self) -> None:
        """Forget the parent's writer: a child is a writer of its own."""
        self._ended = False
        self._prepare()


def _drop(*_record: Any) -> bool:
    """Stands in for a writer behind the end of a session."""
    return False


def facts(settings: Settings) -> dict[str, Any]:
    """Return the ECS fields that are the same for all records of this process."""
    found = {
        "run.id": run_id(settings),
        "run.name": settings.run_name,
        "run.attempt": settings.attempt,
        "run.node": settings.node,
        "run.rank": settings.rank,
        "run.local_rank": settings.local_rank,
        "experiment.name": settings.experiment,
        "host.name": os.uname().nodename,
        "process.pid": os.getpid(),
        "process.name": event.process_name(),
        "labels": dict(settings.tags) or None,
        "role": "process" if settings.parent else "session",
        "parent": settings.parent,
        "started": time.time_ns() // 1000,
    }
    return {name: value for name, value in found.items() if value is not None}


def run_id(settings: Settings) -> str:
    """Return the given run, else one made up for this process and what it forks."""
    if settings.run_id:
        return settings.run_id
    if settings.experiment not in _own_run:
        made = f"{settings.experiment}_{int(time.time())}_{os.urandom(4).hex()}"
        _own_run.setdefault(settings.experiment, made)
    return _own_run[settings.experiment]


def end_all() -> None:
    """End every outlet of this process: `completed`, or what an uncaught exception makes of it."""
    from loghaul import faults

    detail = {"status": "completed", **faults.fatal()}
    for outlet in list(_open):
        outlet.end("closed" if outlet.role == "session" else "exit", detail)
    faults.stay_interrupted()


def _forked() -> None:
    _open.clear()
    for outlet in list(_outlets):
        outlet.forked()


def _end_in_multiprocessing(outlet: Outlet) -> None:
    """Children of multiprocessing leave by os._exit: they run its finalizers, not atexit's."""
    util = sys.modules.get("multiprocessing.util")
    process = sys.modules.get("multiprocessing.process")
    if util is not None and process is not None and process.parent_process() is not None:
        util.Finalize(outlet, end_all, exitpriority=-1000)


os.register_at_fork(after_in_child=_forked)
DEFAULT = Outlet()

if "loghaul.hook" not in sys.modules:
    # Handlers that hold records back hand them over in logging.shutdown: we end behind it.
    atexit.unregister(logging.shutdown)
    atexit.register(end_all)
    atexit.register(logging.shutdown)
