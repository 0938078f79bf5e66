"""Terminals: a pty that looks to CMD like the user's own, and keeps the bytes as they are."""

from __future__ import annotations

import fcntl
import os
import termios
from collections.abc import Iterator

from loghaul.spool import pipe

_OUTPUT_FLAGS, _LOCAL_FLAGS = 1, 3
_TIOCGPTPEER = 0x5441  # Linux's, for the other end; `termios` has no name for it
_SIZE_BYTES = 8  # struct winsize: rows, columns and pixels


def open_pty(output: int) -> tuple[int, int]:
    """Return (our end, CMD's end) of a new pty with the settings and size of the terminal `output`.

    Output processing and echo are off: the user's terminal does that to the copy, as it would
    without us, and our bytes stay exact. It becomes nobody's controlling terminal. Where `output`
    is no terminal the size is left at the system's 80 x 24.
    """
    ours, theirs = os.openpty()
    try:
        attributes = termios.tcgetattr(output)
    except termios.error:
        attributes = termios.tcgetattr(theirs)
        _set_size(theirs, b"\x18\0\x50\0\0\0\0\0")
    attributes[_OUTPUT_FLAGS] &= ~termios.OPOST
    attributes[_LOCAL_FLAGS] &= ~termios.ECHO
    termios.tcsetattr(theirs, termios.TCSANOW, attributes)
    copy_size(output, ours)
    return ours, theirs


def rest_of(ours: int, max_bytes: int) -> Iterator[bytes]:
    """Give what a pty holds that is to be closed, at most so many bytes at a time.

    It is stopped first, as by Ctrl-S: a write that was accepted before is in it, one that comes
    later waits and fails with the close.
    """
    theirs = fcntl.ioctl(ours, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        termios.tcflow(theirs, termios.TCOOFF)
        while pipe.is_readable(ours):
            yield pipe.read(ours, max_bytes)
    finally:
        os.close(theirs)


def copy_size(source: int, target: int) -> bool:
    """Give `target` the window size of `source`; true when that changed it."""
    try:
        size = _size(source)
        if size == _size(target):
            return False
        _set_size(target, size)
    except OSError:
        return False
    return True


def _size(terminal: int) -> bytes:
    return fcntl.ioctl(terminal, termios.TIOCGWINSZ, bytes(_SIZE_BYTES))


def _set_size(terminal: int, size: bytes) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, size)
