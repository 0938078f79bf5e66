"""A file that is followed by name, however it is rotated.

    rename and create   the old file is read to its end, and the new one when something is in it
    copy and truncate   what the copy has behind our place is read there, then the file from 0

Files between (rotated twice while nobody looked) are found by name and time. A file counts as the
one we knew when inode and first bytes are the same.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

#: Of a file's beginning so many bytes tell it from another of the same inode; of what stands
#: before our place so many tell that it is still the file it was.
HEAD_BYTES, WINDOW_BYTES = 1024, 256

#: A rotated file is left when nothing came of it for so long.
SETTLE_SECONDS = 1.0

#: What rotations put behind a name, or before its suffix: numbers, dates, "old". Compressed files
#: are none of them: they cannot be read on from a place.
_ROTATED = r"[._-](?:\d[\dT:._-]*|old|bak|prev)"


class Mark(NamedTuple):
    """What a file is known by."""

    device: int
    inode: int
    head: str
    head_bytes: int


class Open:
    """A file that is open, and our place in it."""

    def __init__(self, fd: int, position: int = 0) -> None:
        self.fd, self.position = fd, position
        self._window = b""
        self.quiet_since = time.monotonic()

    def read(self, count: int) -> bytes:
        """Return the next bytes, without going on."""
        return os.pread(self.fd, count, self.position)

    def advance(self, count: int) -> None:
        """Go on behind `count` bytes."""
        self.position += count
        start = max(0, self.position - WINDOW_BYTES)
        self._window = os.pread(self.fd, self.position - start, start)
        self.quiet_since = time.monotonic()

    @property
    def size(self) -> int:
        """How long it is."""
        return os.fstat(self.fd).st_size

    @property
    def window(self) -> bytes:
        """What stands before our place, as we read it."""
        return self._window

    def truncated(self) -> bool:
        """Whether what stood before our place is gone: the file was begun anew."""
        return not self.holds(self._window, self.position)

    def holds(self, window: bytes, position: int) -> bool:
        """Whether these bytes stand before a position."""
        return os.pread(self.fd, len(window), position - len(window)) == window

    def mark(self) -> Mark:
        """Return what it is known by now: it may have grown since."""
        found = os.fstat(self.fd)
        length = min(HEAD_BYTES, found.st_size)
        return Mark(found.st_dev, found.st_ino, _digest(self.fd, length), length)

    def is_marked(self, mark: Mark) -> bool:
        """Whether it is the file that a mark was made of."""
        found = os.fstat(self.fd)
        same = (found.st_dev, found.st_ino) == (mark.device, mark.inode)
        return same and self.begins_as(mark)

    def begins_as(self, mark: Mark) -> bool:
        """Whether its first bytes are those of a mark."""
        return self.size >= mark.head_bytes and _digest(self.fd, mark.head_bytes) == mark.head

    def close(self) -> None:
        """Close it."""
        os.close(self.fd)


def open_at(path: Path, position: int = 0) -> Open | None:
    """Open a regular file; None where there is none. Raises OSError when it cannot be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(0, "is no regular file: pipe it into `loghaul run` instead", str(path))
    found = Open(fd, position)
    found.advance(0)
    return found


def find(path: Path, mark: Mark, position: int) -> Open | None:
    """Return the file that a mark was made of, wherever a rotation has put it."""
    for candidate in (path, *siblings(path)):
        found = _try(candidate)
        if found is None:
            continue
        if found.is_marked(mark) and found.size >= position:
            found.position = position
            found.advance(0)
            return found
        found.close()
    return None


def copy_of(path: Path, mark: Mark, position: int, window: bytes = b"") -> Open | None:
    """Return the copy of a file that was truncated, if there is one with more than we have read.

    window   what stood before our place, where that is known
    """
    for candidate in siblings(path):
        found = _try(candidate)
        if found is None:
            continue
        known = mark.head_bytes and found.begins_as(mark) and found.holds(window, position)
        if known and found.size > position:
            found.position = position
            found.advance(0)
            return found
        found.close()
    return None


def between(path: Path, old: Open, new: Open) -> Iterator[Open]:
    """Yield files that were rotated away after `old` and before `new`, in order."""
    known = {_inode(old.fd), _inode(new.fd)}
    since = os.fstat(old.fd).st_mtime_ns
    found: list[tuple[int, Path]] = []
    for candidate in siblings(path):
        try:
            status = candidate.stat()
        except OSError:
            continue
        fresh = (status.st_dev, status.st_ino) not in known and status.st_mtime_ns > since
        if fresh and status.st_size:
            found.append((status.st_mtime_ns, candidate))
    for _, candidate in sorted(found):
        one = _try(candidate)
        if one is not None:
            yield one


def siblings(path: Path) -> list[Path]:
    """Return the files that a rotation may have made of a file, newest first."""
    found: list[tuple[int, Path]] = []
    whole, stem, suffix = map(re.escape, (path.name, path.stem, path.suffix))
    rotated = re.compile(f"{whole}{_ROTATED}|{stem}{_ROTATED}{suffix}")
    try:
        for entry in os.scandir(path.parent):
            if rotated.fullmatch(entry.name) and entry.name != path.name and entry.is_file():
                found.append((entry.stat().st_mtime_ns, Path(entry.path)))
    except OSError:
        return []
    return [path for _, path in sorted(found, reverse=True)]


def is_at(path: Path, found: Open) -> bool:
    """Whether a name still is that of an open file."""
    try:
        status = path.stat()
    except OSError:
        return False
    return (status.st_dev, status.st_ino) == _inode(found.fd)


def _try(path: Path) -> Open | None:
    try:
        return open_at(path)
    except OSError:
        return None


def _inode(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def _digest(fd: int, length: int) -> str:
    return blake2b(os.pread(fd, length, 0), digest_size=16).hexdigest()
