"""Reading from pipes and terminals: how much waits there, and what their ends look like."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import struct
import termios


def waiting(fd: int) -> int:
    """Return the bytes that can be read now; 0 at the end, or where that cannot be told."""
    try:
        return int(struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, bytes(4)))[0])
    except OSError:
        return 0


def is_readable(fd: int) -> bool:
    """Tell whether a read would return at once, be it with the end of the file."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))


def read(fd: int, length: int) -> bytes:
    """Read; b"" at the end, which a terminal whose other side has closed tells by EIO."""
    try:
        return os.read(fd, length)
    except OSError as error:
        if error.errno == errno.EIO:
            return b""
        raise


def read_into(fd: int, into: memoryview) -> int:
    """Read into a buffer and release it; 0 at the end, as in `read`."""
    try:
        return os.readv(fd, [into])
    except OSError as error:
        if error.errno == errno.EIO:
            return 0
        raise
    finally:
        into.release()
