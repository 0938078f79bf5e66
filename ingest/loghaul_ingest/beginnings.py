"""How an event began whose end is still to come, read from a store.

A worker that goes on with a stream after a restart needs it: the event belongs to the block where
it ends, which is the one that this worker is about to write.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate

from loghaul.chunk import StreamKey
from loghaul_ingest.block import MAX_HEAD_BYTES, Head
from loghaul_ingest.growing import NOTHING, Beginning
from loghaul_ingest.lines import last_end
from loghaul_ingest.stores.base import Reader, Stored


def beginning_at(reader: Reader, stream: StreamKey, kind: str, at: int) -> Beginning:
    """Return the beginning of the event that goes on at an offset, as far as it is stored."""
    before = _last(list(reader.heads(stream, at - 1, at)))
    stored = next(iter(reader.load([before.key])), None) if before else None
    if stored is None:
        return NOTHING
    head = stored.head
    whole = last_end(stored.data[: at - head.offset], kind, more=False)
    start = head.offset + whole if whole else head.offset - head.head
    if start >= at:
        return NOTHING
    return Beginning(
        _bytes(reader, stream, start, min(at, start + MAX_HEAD_BYTES)),
        at - start,
        _arrival(stored, whole),
    )


def _last(heads: list[Head]) -> Head | None:
    """Of blocks that overlap the one that ends last."""
    return max(heads, key=lambda head: head.end, default=None)


def _bytes(reader: Reader, stream: StreamKey, start: int, end: int) -> bytes:
    found, at = [], start
    for stored in reader.load([head.key for head in reader.heads(stream, start, end)]):
        if stored.head.offset > at:
            break
        found.append(stored.data[at - stored.head.offset : end - stored.head.offset])
        at += len(found[-1])
    return b"".join(found)


def _arrival(stored: Stored, position: int) -> int:
    """Return when the byte at a position came; that of position 0 may have begun before."""
    if not stored.marks:
        return stored.head.time_min
    if position == 0:
        return stored.marks[0].time_us
    ends = list(accumulate(mark.length for mark in stored.marks))
    return stored.marks[min(bisect_right(ends, position), len(ends) - 1)].time_us
