"""A set of bytes of a stream, as ascending ranges that neither touch nor overlap.

Nearly always there is one range, from 0 to the end; holes make more. Every operation is a search
and at most a few changes in a short list.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator


class Ranges:
    """Ranges [start, end) of byte offsets."""

    __slots__ = ("_ends", "_starts")

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        for start, end in ranges:
            self.add(start, end)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._starts, self._ends, strict=True)

    def __repr__(self) -> str:
        return f"Ranges({list(self)})"

    @property
    def end(self) -> int:
        """Behind the last byte; 0 when empty."""
        return self._ends[-1] if self._ends else 0

    def add(self, start: int, end: int) -> None:
        """Put [start, end) in, joined with what it touches. An empty range changes nothing."""
        if start >= end:
            return
        first = bisect_left(self._ends, start)
        last = bisect_right(self._starts, end)
        if first < last:
            start = min(start, self._starts[first])
            end = max(end, self._ends[last - 1])
        self._starts[first:last] = [start]
        self._ends[first:last] = [end]

    def covers(self, start: int, end: int) -> bool:
        """Whether every byte of [start, end) is in; an empty range is."""
        if start >= end:
            return True
        index = bisect_right(self._starts, start) - 1
        return index >= 0 and end <= self._ends[index]

    def missing(self, start: int, end: int) -> list[tuple[int, int]]:
        """Return the ranges of [start, end) that are not in, ascending."""
        found = []
        index = bisect_right(self._ends, start)
        while start < end and index < len(self._starts):
            here, behind = self._starts[index], self._ends[index]
            if here >= end:
                break
            if here > start:
                found.append((start, here))
            start = behind
            index += 1
        if start < end:
            found.append((start, end))
        return found

    def starts_at(self, offset: int) -> bool:
        """Whether a range begins exactly there."""
        index = bisect_left(self._starts, offset)
        return index < len(self._starts) and self._starts[index] == offset
