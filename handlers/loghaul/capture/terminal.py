"""Terminals: a pty that looks to CMD like the user's own, and keeps the bytes as they are."""

from __future__ import annotations

import fcntl
import os
import termios

_OUTPUT_FLAGS, _LOCAL_FLAGS = 1, 3
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
