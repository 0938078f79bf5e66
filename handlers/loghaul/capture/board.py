"""The board: what must outlive a pump, in anonymous memory shared by guard and pump.

A slot per source (one end of a pipe) holds the phase of its current cycle and its buffer; a table
holds the end of each stream as the pump saw it, whatever the spool made of the bytes. All are
64-bit words written by one store each, so a reader sees the old value or the new one.
"""

from __future__ import annotations

import mmap
from enum import IntEnum

SLOTS = 130  # stdout and stderr, and the same of 64 ranks on a node
BUFFER_BYTES = 64 * 1024
ROWS = SLOTS + 8  # and the launcher's own files
_WORDS = 16
_HEAD_WORDS = 16


class Field(IntEnum):
    """Words of a slot."""

    PHASE = 0
    LENGTH = 1  # bytes in the current cycle
    AT = 2  # end of the stream before this cycle was appended
    BASE = 3  # what the user's output had before the step that is under way
    EOF = 4
    ACTIVE_NS = 5  # monotonic time of the last byte
    UNFORWARDED = 6  # bytes that the user's own output refused
    STEP = 7  # twice the bytes of this cycle that it has; plus one while a step is under way


class Board:
    """Shared words and buffers; inherited by fork."""

    def __init__(self) -> None:
        words = _HEAD_WORDS + SLOTS * _WORDS + ROWS
        self._buffers_at = -(-words * 8 // mmap.PAGESIZE) * mmap.PAGESIZE
        memory = mmap.mmap(-1, self._buffers_at + SLOTS * BUFFER_BYTES)
        self._view = memoryview(memory)
        self._words = self._view[: words * 8].cast("q")
        self._ends_at = _HEAD_WORDS + SLOTS * _WORDS

    @property
    def notes_done(self) -> int:
        """How many notes of the guard the pumps have carried out."""
        return self._words[0]

    @notes_done.setter
    def notes_done(self, value: int) -> None:
        self._words[0] = value

    @property
    def sources(self) -> int:
        """How many slots are in use."""
        return self._words[1]

    @sources.setter
    def sources(self, value: int) -> None:
        self._words[1] = value

    def get(self, slot: int, name: Field) -> int:
        """Return a word of a slot."""
        return self._words[_HEAD_WORDS + slot * _WORDS + name]

    def set(self, slot: int, name: Field, value: int) -> None:
        """Write a word of a slot."""
        self._words[_HEAD_WORDS + slot * _WORDS + name] = value

    def buffer(self, slot: int) -> memoryview:
        """Return the buffer of a slot: BUFFER_BYTES."""
        start = self._buffers_at + slot * BUFFER_BYTES
        return self._view[start : start + BUFFER_BYTES]

    def end(self, row: int) -> int:
        """Return the end of a stream: all bytes that were read for it, spooled or not."""
        return self._words[self._ends_at + row]

    def set_end(self, row: int, value: int) -> None:
        """Write the end of a stream."""
        self._words[self._ends_at + row] = value
