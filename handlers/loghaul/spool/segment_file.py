"""A segment that a reader has open, by pread: one cut or unlinked under it is short, no fault."""

from __future__ import annotations

import os
import weakref
from pathlib import Path

from loghaul.errors import SpoolError, SpoolFormatError
from loghaul.spool.format import decode_segment_header
from loghaul.spool.segment import segment_name


class SegmentFile:
    """One segment, open for reading.

    size     of the whole segment in bytes, of which the file may lack the end
    final    set by the reader once nothing more will be written to it
    """

    def __init__(self, directory: Path, number: int) -> None:
        """Open it. Raises OSError, and SpoolFormatError when a newer loghaul wrote it."""
        self.final = False
        self._fd = os.open(directory / segment_name(number), os.O_RDONLY | os.O_CLOEXEC)
        # A reader that is dropped without a word gives its descriptor back, too.
        self._finalizer = weakref.finalize(self, os.close, self._fd)
        self._finalizer.atexit = False
        try:
            self.size = os.fstat(self._fd).st_size
            self.size = max(decode_segment_header(os.pread(self._fd, 64, 0)).size, self.size)
        except SpoolFormatError:
            self.close()
            raise
        except (SpoolError, OSError):
            pass  # a damaged header costs nothing: the records say all that is needed

    def window(self, at: int, length: int) -> bytes:
        """Return up to `length` bytes from a place on; fewer, or none, where there are no more."""
        try:
            return os.pread(self._fd, length, at)
        except OSError:
            return b""

    def close(self) -> None:
        """Give up the descriptor."""
        self._finalizer()
        self._fd = -1
