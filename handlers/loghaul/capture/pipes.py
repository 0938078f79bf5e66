"""Makes the pipes and ptys that CMD and its ranks write to."""

from __future__ import annotations

import fcntl
import os
import select
import stat
from collections.abc import Iterator
from typing import Optional

from loghaul.capture import terminal
from loghaul.capture.board import BUFFER_BYTES
from loghaul.capture.output import QUEUE_BYTES, TERMINAL_QUEUE_BYTES, fill_of
from loghaul.capture.source import Plumbing

#: Of CMD's own pipes: so much it can write while the pump is busy or being replaced.
PIPE_BYTES = 1024 * 1024
#: Of those of ranks, or many would use up the user's quota of pipe pages (64 MiB).
RANK_PIPE_BYTES = 128 * 1024


def open_queue(output: int) -> tuple[int, int]:
    """Return the queue before one of the user's own outputs: (read end, write end)."""
    ends = os.pipe()
    _enlarge(ends[1], TERMINAL_QUEUE_BYTES if os.isatty(output) else QUEUE_BYTES)
    return ends


def open_source(
    slot: int,
    row: int,
    output: int,
    queue: tuple[int, int],
    name: str,
    path: str,
    pty: Optional[bool],
    pipe_bytes: int = PIPE_BYTES,
) -> tuple[Plumbing, int]:
    """Return a source's plumbing and CMD's end of it.

    queue   of the output (`open_queue`)
    pty     True, False, or None: a pty where the user's own stream is a terminal
    Raises OSError when there are no descriptors left.
    """
    as_terminal = os.isatty(output) if pty is None else pty
    ours, theirs = terminal.open_pty(output) if as_terminal else os.pipe()
    if not as_terminal:
        _enlarge(theirs, pipe_bytes)
    private_read, private_write = os.pipe()
    # A splice of many partly filled pages must fit; their bytes are at most the buffer's.
    _enlarge(private_write, BUFFER_BYTES)
    iostream = "stdout" if output == 1 else "stderr"
    ends = (ours, private_read, private_write, *queue)
    return Plumbing(slot, row, *ends, output, name, path, iostream), theirs


def hold(read_end: int) -> Optional[int]:
    """Return an end for writing of a pipe that is to be closed for reading; None for a pty, whose
    rest is had before (`terminal.rest_of`).

    It keeps what the pipe holds, and is no reader to those who write.
    """
    if not stat.S_ISFIFO(os.fstat(read_end).st_mode):
        return None
    return os.open(f"/proc/self/fd/{read_end}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)


def rest_of(held: int) -> Iterator[bytes]:
    """Wait until nobody reads the pipe any more, then give what it holds.

    A write that was accepted before is in it. While that is read one more may succeed, so the pipe
    is looked at until it is empty with nobody reading it: then every write fails.
    """
    poll = select.poll()
    poll.register(held, 0)
    poll.poll()  # an error: there is no reader
    while fill_of(held):
        read_end = os.open(f"/proc/self/fd/{held}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            yield os.read(read_end, BUFFER_BYTES)
        finally:
            os.close(read_end)


def _enlarge(pipe: int, size_bytes: int) -> None:
    try:
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, size_bytes)
    except OSError:
        pass  # the user's quota of pipe pages is used up: the usual size does too
