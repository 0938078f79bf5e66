"""Makes the pipes and ptys that CMD and its ranks write to."""

from __future__ import annotations

import fcntl
import os
from typing import Optional

from loghaul.capture import terminal
from loghaul.capture.board import BUFFER_BYTES
from loghaul.capture.output import QUEUE_BYTES, TERMINAL_QUEUE_BYTES
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


def _enlarge(pipe: int, size_bytes: int) -> None:
    try:
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, size_bytes)
    except OSError:
        pass  # the user's quota of pipe pages is used up: the usual size does too
