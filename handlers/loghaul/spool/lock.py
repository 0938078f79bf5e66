"""The lock of a writer's directory: held for as long as the writer or a relative of it lives."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Optional

LOCK_NAME = "lock"


def create(directory: Path) -> int:
    """Make the lock of a new directory and take it; return the descriptor. Raises OSError."""
    fd = os.open(directory / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(fd)
        raise
    return fd


def is_free(directory: Path) -> bool:
    """Tell whether nobody writes to a directory any more; False where there is none."""
    try:
        held = take(directory)
    except OSError:
        return False
    if held is not None:
        os.close(held)
    return held is not None


def take(directory: Path) -> Optional[int]:
    """Lock a directory and return the descriptor that holds the lock; None: somebody has it.

    The lock belongs to the open file, so processes forked from here share it, and it is free
    when the last of them has closed it or died. Raises OSError when there is no directory.
    """
    fd = os.open(directory / LOCK_NAME, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    except BaseException:
        os.close(fd)
        raise
    return fd
