"""Consecutive bytes of a stream that are not sealed yet, and where they may be cut into blocks.

A cut comes behind an event's end where there is one within a block's size: `\\n`, and in text a
`\\r` that no `\\n` follows. So a `\\r` that is the last byte there is waits for the next byte, but
not longer than a block may grow old: then it is an end, so that a progress bar that stands still is
found a second later. A `\\n` that comes after all is an empty line of its own, and stays one: such
blocks are never merged (`compaction`). What has no end is cut by size or age as it stands, and the
next block is told how the event began.

No loop over lines: where the 256th of them ends is a few calls into C.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from loghaul.chunk import BLOB, TEXT, Mark
from loghaul_ingest.block import MAX_AGE_SECONDS, MAX_BYTES, MAX_HEAD_BYTES, MAX_LINES
from loghaul_ingest.lines import last_end, nth_end


class Limits(NamedTuple):
    """When a block is sealed: at this size, this many events, or this age.

    open_bytes   when all open blocks together pass this, the oldest are sealed before their time
    """

    block_bytes: int = MAX_BYTES
    block_lines: int = MAX_LINES
    age_us: int = int(MAX_AGE_SECONDS * 1e6)
    open_bytes: int = 24 * 2**20


_USUAL = Limits()


class Beginning(NamedTuple):
    """Of an event that goes on: its first bytes, how many there were, when the first one came."""

    data: bytes = b""
    length: int = 0
    time_us: int = 0


NOTHING = Beginning()


class Cut(NamedTuple):
    """The bytes of one block. `ended`: no byte will ever follow its last line."""

    offset: int
    data: bytes
    marks: tuple[Mark, ...]
    head: Beginning
    ended: bool


def slice_marks(
    marks: Sequence[Mark], ends: Sequence[int], start: int, end: int
) -> tuple[Mark, ...]:
    """Return the marks of [start, end). `ends[i]` is the offset behind marks[i]; none is empty."""
    if start >= end:
        return ()
    first, last = bisect_right(ends, start), bisect_left(ends, end)
    found = list(marks[first : last + 1])
    found[-1] = Mark(found[-1].length - (ends[last] - end), found[-1].time_us)
    found[0] = Mark(min(ends[first], end) - start, found[0].time_us)
    return tuple(found)


class Growing:
    """Bytes [offset, end) of a stream on their way into blocks; `head` is what stands before."""

    def __init__(
        self, kind: str, offset: int, head: Beginning = NOTHING, limits: Limits = _USUAL
    ) -> None:
        self.kind = kind
        self.limits = limits
        self.offset = self.end = offset
        self.head = head
        self.position: int | None = None
        self._parts: list[bytes] = []
        self._marks: list[Mark] = []
        self._mark_ends: list[int] = []
        self._arrivals: list[tuple[int, int]] = []
        self._events = 0

    @property
    def length(self) -> int:
        """Bytes held."""
        return self.end - self.offset

    @property
    def since_us(self) -> int:
        """When the first byte came to this worker, by its own clock."""
        return self._arrivals[0][1] if self._arrivals else 0

    def append(self, data: bytes, marks: Sequence[Mark], now_us: int) -> None:
        """Take bytes that follow at `end`. Empty marks are dropped."""
        lengths = [mark[0] for mark in marks]
        if 0 in lengths:
            marks = [mark for mark in marks if mark.length]
            lengths = [mark.length for mark in marks]
        self._marks.extend(marks)
        self._mark_ends.extend(list(accumulate(lengths, initial=self.end))[1:])
        self._arrivals.append((self.end, now_us))
        self._parts.append(data)
        self.end += len(data)
        enough = len(data) >= self.limits.block_bytes
        self._events += self.limits.block_lines if enough else _at_most(data, self.kind)

    def absorb(self, other: Growing) -> None:
        """Take all of what begins where this one ends."""
        self._marks.extend(other._marks)
        self._mark_ends.extend(other._mark_ends)
        self._arrivals.extend((at, min(now, other.since_us)) for at, now in other._arrivals)
        self._parts.extend(other._parts)
        self.end = other.end
        self._events += other._events
        self.position = other.position

    def cut_full(self) -> list[Cut]:
        """Cut off every block that has reached its size or its number of events."""
        if self._events < self.limits.block_lines and self.length < self.limits.block_bytes:
            return []
        data, at, cuts = self._join(), 0, []
        while (end := self._next(data, at)) is not None:
            cuts.append(self._cut(data, at, end))
            at = end
        self._keep(data, at)
        return cuts

    def cut_aged(self, until_us: int) -> list[Cut]:
        """Cut off what came by `until_us`, with whole lines behind it."""
        if not self._arrivals or self.since_us > until_us:
            return []
        data = self._join()
        newest = self._arrivals[-1][1]
        end = len(data) if newest <= until_us else _decided(data, self.kind, len(data))
        whole = last_end(data[:end], self.kind, more=False) if self.kind != BLOB else end
        if not whole or (whole < end and self._arrival(self.offset + whole) <= until_us):
            whole = end
        cuts = [self._cut(data, 0, whole)] if whole else []
        self._keep(data, whole)
        return cuts

    def cut_all(self, ended: bool = False) -> list[Cut]:
        """Cut off everything there is. `ended`: nothing will ever follow."""
        if not self.length:
            return []
        data = self._join()
        cuts = [self._cut(data, 0, len(data), ended)]
        self._keep(data, len(data))
        return cuts

    def give_back(self) -> tuple[int, bytes, tuple[Mark, ...]]:
        """Return (offset, bytes, marks) of everything, to be placed anew."""
        return self.offset, self._join(), tuple(self._marks)

    def _next(self, data: bytes, at: int) -> int | None:
        """Return where the full block that begins at `at` ends, None when there is none."""
        size = self.limits.block_bytes
        enough = len(data) - at >= size
        if self.kind == BLOB:
            return at + size if enough else None
        end = _decided(data, self.kind, min(at + size, len(data)))
        full = nth_end(data[at:end], self.kind, self.limits.block_lines, more=False)
        if full > 0:
            return at + full
        if not enough:
            return None
        whole = last_end(data[at:end], self.kind, more=False)
        return at + whole if whole else end

    def _cut(self, data: bytes, at: int, end: int, ended: bool = False) -> Cut:
        piece = data[at:end]
        start = self.offset
        marks = slice_marks(self._marks, self._mark_ends, start, start + len(piece))
        cut = Cut(start, piece, marks, self.head, ended)
        self.head = behind(self.head, piece, marks, self.kind)
        self.offset = start + len(piece)
        kept = bisect_right(self._mark_ends, self.offset)
        if kept < len(self._marks):
            # The mark that was cut through goes on with what is left of it.
            left = self._mark_ends[kept] - self.offset
            self._marks[kept] = Mark(left, self._marks[kept].time_us)
        del self._marks[:kept], self._mark_ends[:kept]
        return cut

    def _join(self) -> bytes:
        if len(self._parts) > 1:
            self._parts = [b"".join(self._parts)]
        return self._parts[0] if self._parts else b""

    def _keep(self, data: bytes, at: int) -> None:
        """Go on with data[at:]."""
        if at:
            rest = data[at:]
            self._parts = [rest] if rest else []
            self._events = _at_most(rest, self.kind)
            arrived = self._arrival(self.offset)
            later = [entry for entry in self._arrivals if entry[0] > self.offset]
            self._arrivals = [(self.offset, arrived), *later] if rest else []

    def _arrival(self, offset: int) -> int:
        return self._arrivals[bisect_right(self._arrivals, (offset, 1 << 62)) - 1][1]


def behind(head: Beginning, data: bytes, marks: Sequence[Mark], kind: str) -> Beginning:
    """Return the beginning of the event that goes on behind `head` + `data`."""
    if kind == BLOB or not data:
        return head
    whole = last_end(data, kind, more=False)
    if whole == len(data):
        return NOTHING
    if not whole and head.length:
        room = max(0, MAX_HEAD_BYTES - len(head.data))
        return Beginning(head.data + data[:room], head.length + len(data), head.time_us)
    ends = list(accumulate(mark.length for mark in marks))
    index = min(bisect_right(ends, whole), len(marks) - 1)
    time_us = marks[index].time_us if marks else 0
    return Beginning(data[whole : whole + MAX_HEAD_BYTES], len(data) - whole, time_us)


def _decided(data: bytes, kind: str, end: int) -> int:
    r"""Return `end`, or one less where a "\r" stands there that a "\n" may follow."""
    return end - 1 if kind == TEXT and end and data[end - 1] == 13 else end


def _at_most(data: bytes, kind: str) -> int:
    """Return how many events may end in `data`: never too few."""
    if kind == BLOB:
        return 0
    return data.count(b"\n") + (data.count(b"\r") if kind == TEXT else 0)
