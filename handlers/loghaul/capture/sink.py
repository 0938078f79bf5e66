"""Where a pump keeps what it reads: the spool, or nowhere when there is none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional, Union

from loghaul.capture.board import Board
from loghaul.capture.job import FIRST_RANK, INFO, LOG, STATUS, STDERR, STDOUT, Job
from loghaul.capture.source import Plumbing
from loghaul.chunk import EVENTS, TEXT
from loghaul.errors import LoghaulError
from loghaul.spool import forks
from loghaul.spool.budget import Limits
from loghaul.spool.writer import SpoolWriter


class NoSink:
    """Takes everything and keeps nothing: for when there is no spool."""

    def append(self, row: int, data: Any, time_us: int) -> None:
        """Forget the bytes."""


class SpoolSink:
    """A writer of the spool, its streams known by their row in the board."""

    def __init__(self, writer: SpoolWriter, board: Board) -> None:
        self._writer = writer
        self._board = board
        self._streams: dict[int, int] = {}
        self.ended = False

    def declare(
        self, row: int, name: str, kind: str, path: str, iostream: Optional[str], **facts: Any
    ) -> None:
        """Make a stream known, or find it again after another pump's death."""
        stream = self._writer.stream(name, kind, path, iostream, digest=True, **facts)
        self._streams[row] = stream

    def declare_rank(self, plumbing: Plumbing, rank: int, local_rank: Optional[int]) -> None:
        """Declare a stream of one rank."""
        facts: dict[str, Any] = {"run.rank": rank}
        if local_rank is not None:
            facts["run.local_rank"] = local_rank
        name, path, iostream = plumbing.name, plumbing.path, plumbing.iostream
        self.declare(plumbing.row, name, TEXT, path, iostream, **facts)

    def append(self, row: int, data: Any, time_us: int) -> None:
        """Keep the next bytes of a stream. What comes after the end belongs to nobody."""
        stream = self._streams.get(row)
        if stream is not None and not self.ended:
            self._writer.append(stream, data, time_us, 40)

    def recover(self, reason: str) -> None:
        """Bring the board's ends and the spool's together after another pump's death.

        Bytes that were read and are not there were refused, or copied while there was no pump:
        they become a gap for this reason, and what follows is appended behind them.
        """
        for row, stream in self._streams.items():
            missing = self._board.end(row) - self._writer.length(stream)
            if missing > 0:
                self._writer.skip(stream, missing, reason)
            self._board.set_end(row, self._writer.length(stream))

    def end(self, cause: str, detail: dict[str, Any], time_us: int) -> None:
        """End every stream."""
        self.ended = True
        self._writer.end(cause, detail, time_us)
        self._writer.close()


def declare_own(sink: SpoolSink, job: Job) -> None:
    """Declare the streams that every supervisor has."""
    sink.declare(STDOUT, "stdout", TEXT, job.driver_log, "stdout")
    sink.declare(STDERR, "stderr", TEXT, job.driver_log, "stderr")
    sink.declare(LOG, job.execution_log, TEXT, job.execution_log, None)
    for row, name in ((INFO, "process_info"), (STATUS, "process_status")):
        path = f"azureml-logs/{name}.json"
        sink.declare(row, path, EVENTS, path, None)


class HeldLock:
    """The lock of a writer whose pump died, held by the guard: makes its forks relatives."""

    def __init__(self, directory: Path, descriptor: int) -> None:
        self.directory = directory
        self._descriptor = descriptor

    def lock_descriptor(self) -> int:
        """Return the descriptor that holds the lock."""
        return self._descriptor

    def before_fork(self) -> None:
        """Nothing is written through this."""

    after_fork_in_parent = after_fork_in_child = before_fork


def open_sink(
    job: Job,
    board: Board,
    plumbing: Sequence[Plumbing],
    lock: int = -1,
    reason: str = "capture was interrupted",
) -> tuple[Union[SpoolSink, NoSink], Optional[int], str]:
    """Return (sink, descriptor that holds its lock, why there is no spool or "").

    Goes on with the writer of a pump that died, where there is one. Never raises: without a spool
    CMD runs all the same.

    lock    descriptor of the dead pump's lock, -1 where the guard has none
    reason  of the gap where bytes were read that no pump could keep
    """
    settings = job.settings
    directory = settings.spool / job.writer
    known = directory.is_dir()
    try:
        if known:
            held = HeldLock(directory, lock)
            forks.register(held)
            writer = SpoolWriter.reopen(directory, limits=_limits(job))
        else:
            facts = job.facts()
            writer = SpoolWriter(settings.spool, facts, limits=_limits(job), writer=job.writer)
        sink = SpoolSink(writer, board)
        declare_own(sink, job)
        for one in plumbing:
            if one.row >= FIRST_RANK:
                sink.declare(one.row, one.name, TEXT, one.path, one.iostream)
        sink.recover(reason)
    except (LoghaulError, OSError) as error:
        return NoSink(), None, str(error)
    return sink, writer.lock_descriptor(), ""


def _limits(job: Job) -> Limits:
    settings = job.settings
    return Limits(settings.spool_max_bytes, settings.spool_reserve_bytes, settings.spool_full)
