"""A segment: a preallocated file that its writer has mapped.

Creating one is the only moment at which a writer may learn that the disk is full.
"""

from __future__ import annotations

import mmap
import os
import re
import sys
from pathlib import Path

from loghaul.spool.format import (
    HEADER_BYTES,
    SEGMENT_HEADER_BYTES,
    SegmentHeader,
    aligned,
    encode_record,
    encode_segment_header,
)

KIB, MIB = 1024, 1024 * 1024
#: Sizes of the first segments of a writer; all later ones have the last size.
SIZES = (256 * KIB, MIB, 4 * MIB)

#: madvise(2): fault all pages in at once, ready for writing (Linux 5.14). One call of 0.25 ms per
#: MiB instead of a page fault of 1 us for every 14 records. Python has no name for it yet.
_MADV_POPULATE_WRITE = 23

_NAME = re.compile(r"(\d{8,})\.segment\Z")


def segment_name(number: int) -> str:
    """Return the file name of a segment."""
    return f"{number:08d}.segment"


def segment_numbers(directory: Path) -> list[int]:
    """Return the numbers of the segments that a writer's directory has, ascending.

    Empty when the directory has vanished.
    """
    try:
        names = os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(int(found[1]) for found in map(_NAME.match, names) if found)


def _populate(mapped: mmap.mmap) -> None:
    """Fault the pages in now; where the kernel cannot, each comes with its first record."""
    if sys.platform == "linux":
        try:
            mapped.madvise(_MADV_POPULATE_WRITE)
        except OSError:
            pass


class Segment:
    """The segment that a writer writes to.

    map     the file, mapped
    bytes   the same, for readv
    words   the same as aligned 4-byte words: storing the length word is one item assignment
    longs   the same as aligned 8-byte words, for the counter of a gap
    used    where the next record goes; kept here only while nobody appends
    """

    def __init__(self, directory: Path, header: SegmentHeader) -> None:
        """Create the file. Raises OSError (ENOSPC, EDQUOT, EFBIG ...) and leaves nothing behind."""
        self.number, self.size = header.number, header.size
        self.path = directory / segment_name(header.number)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        fd = os.open(self.path, flags, 0o600)
        try:
            os.posix_fallocate(fd, 0, header.size)
            self.map = mmap.mmap(fd, header.size)
        except BaseException:
            os.unlink(self.path)
            raise
        finally:
            os.close(fd)
        _populate(self.map)
        self.bytes = memoryview(self.map)
        self.words = self.bytes.cast("I")
        self.longs = self.bytes.cast("Q")
        self.used = SEGMENT_HEADER_BYTES
        self.map[:SEGMENT_HEADER_BYTES] = encode_segment_header(header)

    def put(
        self, kind: int, stream: int, offset: int, time_us: int, payload: bytes, number: int = 0
    ) -> int:
        """Write a record where there is room for it; return where it begins, or -1."""
        start = self.used
        after = start + aligned(HEADER_BYTES + len(payload))
        if after > self.size:
            return -1
        length, rest = encode_record(kind, stream, offset, time_us, payload, number)
        self.map[start + 4 : start + length] = rest
        self.words[start >> 2] = length
        self.used = after
        return start

    def move(self, directory: Path) -> None:
        """Note that the directory was renamed."""
        self.path = directory / self.path.name

    def close(self, *, cut: bool = False) -> None:
        """Unmap; `cut` gives the unused rest back to the disk."""
        for view in (self.words, self.longs, self.bytes):
            view.release()
        self.map.close()
        if cut:
            try:
                os.truncate(self.path, self.used)
            except OSError:
                pass  # released meanwhile
