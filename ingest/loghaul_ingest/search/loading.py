"""From candidates to views: loads in growing batches, and gives no event twice.

A second thread that loads ahead was tried and brought nothing: between two decompressions it waits
for the interpreter longer than they take.

Blocks that overlap (a worker that did not know it had been replaced) hold the same events. An
event is where it ends, so one that ends in bytes already given is left out.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from loghaul.chunk import StreamKey
from loghaul_ingest.block import Head
from loghaul_ingest.lines import Span
from loghaul_ingest.stores.base import Reader, Stored
from loghaul_ingest.view import View

FIRST, LARGEST = 2, 64


def load(
    reader: Reader,
    heads: Iterator[Head],
    wanted: Callable[[Sequence[Head]], Sequence[Head]],
    needed: Callable[[int], int] = lambda read: read + FIRST,
) -> Iterator[Stored]:
    """Yield the blocks of `heads` in their order; those that vanished, as what they became.

    wanted    those of some blocks that have to be read
    needed    how many more there should be, behind so many. Batches follow it within bounds: they
              double where it says nothing, so that the first few blocks come at once and many fast
    """
    size, read = FIRST, 0
    while batch := list(islice(heads, size)):
        yield from _loaded(reader, wanted(batch))
        read += len(batch)
        size = min(max(needed(read), FIRST), LARGEST)


def _loaded(reader: Reader, heads: Sequence[Head]) -> list[Stored]:
    found = list(reader.load([head.key for head in heads])) if heads else []
    if len(found) == len(heads):
        return found
    by_key = {stored.head.key: stored for stored in found}
    result: list[Stored] = []
    for head in heads:
        stored = by_key.get(head.key)
        if stored is None:
            now = list(reader.heads(head.stream, head.offset, head.end))
            result += reader.load([other.key for other in now])
        else:
            result.append(stored)
    return result


class Given:
    """Which bytes of each stream were given already."""

    def __init__(self) -> None:
        self._ranges: dict[StreamKey, list[tuple[int, int]]] = {}

    def take(self, head: Head) -> list[tuple[int, int]]:
        """Note a block; return the ranges of it that were given before (usually none)."""
        ranges = self._ranges.setdefault(head.stream, [])
        place = bisect_left(ranges, (head.offset, head.end))
        near = ranges[max(0, place - 1) :]
        found = []
        for start, end in near:
            if start >= head.end:
                break
            if end > head.offset:
                found.append((start, end))
        if not found:
            ranges.insert(place, (head.offset, head.end))
        else:
            self._join(ranges, head, found)
        return found

    @staticmethod
    def _join(ranges: list[tuple[int, int]], head: Head, found: list[tuple[int, int]]) -> None:
        for one in found:
            ranges.remove(one)
        joined = (min(head.offset, found[0][0]), max(head.end, *(end for _, end in found)))
        ranges.insert(bisect_left(ranges, joined), joined)


def fresh(view: View, spans: Sequence[Span], given: Sequence[tuple[int, int]]) -> list[Span]:
    """Return the spans whose events do not end in bytes already given."""
    if not given:
        return list(spans)
    shift = view.head.offset - len(view.before)
    return [
        span for span in spans if not any(start < span[1] + shift <= end for start, end in given)
    ]
