"""Which blocks of a stream to merge, and what comes out: the same for every store.

Plain neighbours are joined and sealed as one: bytes and marks add up, and so do the counters,
because no cut between two of them changes an event. Blocks that overlap (two workers cut the same
bytes differently) are read as a reader would, skipping what was given, and sealed anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from loghaul.chunk import BLOB, TEXT, Mark
from loghaul_ingest import lines
from loghaul_ingest.block import MAX_BYTES, MAX_HEAD_BYTES, MAX_LINES, Block, Facts, Head
from loghaul_ingest.seal import seal
from loghaul_ingest.stores.base import Stored

# Merging full blocks into still larger ones when a stream has ended was measured: four in one save
# 2 % of the raw bytes and cost as much CPU as writing them did.

#: Overlaps are repaired in pieces of this size: what is left is met by the next compaction.
REPAIR_BYTES = 8 * 1024 * 1024

#: Gives the bytes of a block.
Load = Callable[[Head], Stored]

#: Gives the blocks of the stream that begin below an offset, the nearest first.
Below = Callable[[int], Iterator[Stored]]


class Group(NamedTuple):
    """Blocks to be replaced by what `merge` gives, by offset, without a hole between them."""

    heads: tuple[Head, ...]
    overlapping: bool


def plan(heads: Sequence[Head]) -> Iterator[Group]:
    """Yield the groups worth merging. `heads` are all of a stream, by offset."""
    group: list[Head] = []
    events = 0
    for cluster in _clusters(heads):
        if len(cluster) > 1:
            yield from _worthwhile(group)
            group = []
            yield Group(tuple(cluster), True)
            continue
        head = cluster[0]
        fits = (
            group
            and group[-1].end == head.offset
            and head.end - group[0].offset <= MAX_BYTES
            and events + head.lines <= MAX_LINES
        )
        if not fits:
            yield from _worthwhile(group)
            group, events = [], 0
        group.append(head)
        events += head.lines
    yield from _worthwhile(group)


def merge(group: Group, facts: Facts, load: Load, below: Below) -> list[Block]:
    """Return the blocks that take the place of a group's."""
    first = group.heads[0]
    before = _before(first, below)
    if group.overlapping:
        return _resealed(group, facts, before, load)
    blocks = []
    for part in _apart([load(head) for head in group.heads]):
        blocks.append(_joined(part, facts, before))
        before = b""
    return blocks


def finished(head: Head, facts: Facts, load: Load, below: Below) -> Block | None:
    """Return the block anew that was sealed with an unfinished line, which has become an event
    because its stream ended there after all; None where the block is right as it is.
    """
    if facts.end is None or facts.end.length != head.end or head.kind == BLOB:
        return None
    stored = load(head)
    if not _open_line(stored) or _counts_tail(stored):
        return None
    return merge(Group((head,), False), facts, lambda _: stored, below)[0]


def _clusters(heads: Sequence[Head]) -> Iterator[list[Head]]:
    """Yield runs of heads of which each overlaps what came before it; mostly single ones."""
    cluster: list[Head] = []
    end = 0
    for head in heads:
        if cluster and head.offset < end and end - cluster[0].offset < REPAIR_BYTES:
            cluster.append(head)
        else:
            if cluster:
                yield cluster
            cluster, end = [head], 0
        end = max(end, head.end)
    if cluster:
        yield cluster


def _worthwhile(group: Sequence[Head]) -> Iterator[Group]:
    """Yield a group unless it would rewrite one large block for the sake of few small ones."""
    total = sum(head.length for head in group)
    if len(group) > 1 and (len(group) >= 8 or max(head.length for head in group) <= total * 3 // 4):
        yield Group(tuple(group), False)


def _apart(stored: Sequence[Stored]) -> Iterator[list[Stored]]:
    r"""Yield what may be joined. A "\r" that a "\n" followed too late was an event, stays one."""
    part: list[Stored] = []
    for one in stored:
        state = part and one.head.kind == TEXT and part[-1].data.endswith(b"\r")
        if state and one.data.startswith(b"\n"):
            yield part
            part = []
        part.append(one)
    yield part


def _joined(stored: Sequence[Stored], facts: Facts, before: bytes) -> Block:
    """Return one block of neighbours."""
    first, last = stored[0].head, stored[-1]
    # A mark of no bytes tells when the event in progress began: only the first is needed still.
    marks = (
        *stored[0].marks,
        *(mark for one in stored[1:] for mark in one.marks if mark.length),
    )
    positions = [one.head.position for one in stored if one.head.position is not None]
    return seal(
        facts,
        first.offset,
        b"".join(one.data for one in stored),
        marks,
        before,
        max(positions, default=None),
        _is_end(facts, last.head.end) or _counts_tail(last),
        head_length=first.head,
    )


def _is_end(facts: Facts, offset: int) -> bool:
    return facts.end is not None and facts.end.length == offset


def _open_line(stored: Stored) -> bool:
    """Whether the last line has no end."""
    return lines.last_end(stored.data, stored.head.kind, more=False) < len(stored.data)


def _counts_tail(stored: Stored) -> bool:
    """Whether the last line was counted although it has no end: nothing could follow it."""
    return stored.head.lines > lines.count(stored.data, stored.head.kind, more=False)


def _before(first: Head, below: Below) -> bytes:
    """Return the beginning of the event that goes on in `first`, MAX_HEAD_BYTES at most."""
    start = max(first.offset - first.head, 0)
    pieces: list[bytes] = []
    position = first.offset
    for stored in below(position) if start < position else ():
        if stored.head.end < position:
            break
        pieces.append(
            stored.data[max(start - stored.head.offset, 0) : position - stored.head.offset]
        )
        position = stored.head.offset
        if position <= start:
            break
        # Of an event of a hundred megabytes only its beginning is wanted.
        if sum(map(len, pieces[:-1])) > MAX_HEAD_BYTES:
            pieces.pop(0)
    return b"".join(reversed(pieces))[:MAX_HEAD_BYTES]


def _resealed(group: Group, facts: Facts, before: bytes, load: Load) -> list[Block]:
    """Return blocks of the bytes of overlapping ones, each byte once, cut anew."""
    first = group.heads[0]
    data, position = b"", first.offset
    marks: list[Mark] = []
    begun_us, ended = None, False
    for head in group.heads:
        if head.end <= position:
            continue
        stored = load(head)
        if head is first and stored.marks and not stored.marks[0].length:
            begun_us = stored.marks[0].time_us
        skip = position - head.offset
        data += stored.data[skip:]
        marks += cut_marks(stored.marks, skip, head.length)
        position = head.end
        ended = _is_end(facts, position) or _counts_tail(stored)
    last = max((head.position for head in group.heads if head.position is not None), default=None)
    blocks, start = [], 0
    opening = begun, length, begun_us = before, first.head, begun_us
    while start < len(data):
        end = _cut(data, start)
        blocks.append(
            seal(
                facts,
                first.offset + start,
                data[start:end],
                cut_marks(marks, start, end),
                begun,
                last,
                ended and end == len(data),
                head_length=length,
                head_time=begun_us,
            )
        )
        begun, length, begun_us = _begun(data, end, facts.kind, marks, opening)
        start = end
    return blocks


def _begun(
    data: bytes,
    end: int,
    kind: str,
    marks: Sequence[Mark],
    opening: tuple[bytes, int, int | None],
) -> tuple[bytes, int, int | None]:
    """Return (first bytes, length, arrival) of the event that goes on at `end`.

    opening   the same of the one that went on at the beginning of `data`
    """
    if kind == BLOB:
        return b"", 0, None
    whole = lines.last_end(data[:end], kind, more=data[end : end + 1] == b"\n")
    if whole == end:
        return b"", 0, None
    piece = data[whole : min(end, whole + MAX_HEAD_BYTES)]
    if whole:
        return piece, end - whole, next(iter(cut_marks(marks, whole, whole + 1))).time_us
    return (opening[0] + piece)[:MAX_HEAD_BYTES], opening[1] + end, opening[2]


def _cut(data: bytes, start: int) -> int:
    """Return where a block of `data` from `start` ends: behind a newline where there is one."""
    if len(data) - start <= MAX_BYTES:
        return len(data)
    newline = data.rfind(b"\n", start, start + MAX_BYTES)
    if newline >= 0:
        return newline + 1
    end = start + MAX_BYTES
    # Whether a "\r" ends an event is told by the byte behind it: keep the two together.
    return end - 1 if data[end - 1 : end] == b"\r" else end


def cut_marks(marks: Sequence[Mark], start: int, end: int) -> tuple[Mark, ...]:
    """Return the marks of the bytes [start, end) of the bytes that `marks` cover."""
    found, position = [], 0
    for length, time_us in marks:
        overlap = min(position + length, end) - max(position, start)
        if overlap > 0:
            found.append(Mark(overlap, time_us))
        position += length
    return tuple(found)
