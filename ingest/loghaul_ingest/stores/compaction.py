"""Which blocks of a stream to merge, and what comes out: the same for every store.

Plain neighbours are joined: bytes, marks and counters add up, so that nothing a reader can see
changes; only the words are computed anew. Blocks that overlap (two workers cut the same bytes
differently) are read as a reader would, skipping what was given, and sealed anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from loghaul.chunk import Mark
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
            and sum(one.lines for one in group) + head.lines <= MAX_LINES
        )
        if not fits:
            yield from _worthwhile(group)
            group = []
        group.append(head)
    yield from _worthwhile(group)


def merge(group: Group, facts: Facts, load: Load, below: Below) -> list[Block]:
    """Return the blocks that take the place of a group's."""
    first = group.heads[0]
    before = _before(first, below)
    if group.overlapping:
        return _resealed(group, facts, before, load)
    stored = [load(head) for head in group.heads]
    # A mark of no bytes tells when the event in progress began: only the first is needed still.
    marks = (
        *stored[0].marks,
        *(mark for one in stored[1:] for mark in one.marks if mark.length),
    )
    data = b"".join(one.data for one in stored)
    sealed = seal(facts, first.offset, data, marks, before, head_length=first.head)
    return [replace(sealed, head=_summed(group.heads))]


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


def _summed(heads: Sequence[Head]) -> Head:
    levels: dict[str, int] = {}
    for head in heads:
        for level, count in head.levels.items():
            levels[level] = levels.get(level, 0) + count
    positions = [head.position for head in heads if head.position is not None]
    return replace(
        heads[0],
        length=sum(head.length for head in heads),
        time_min=min(head.time_min for head in heads),
        time_max=max(head.time_max for head in heads),
        lines=sum(head.lines for head in heads),
        progress=sum(head.progress for head in heads),
        levels=levels,
        position=max(positions, default=None),
    )


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
    data, position = b"", group.heads[0].offset
    marks: list[Mark] = []
    for head in group.heads:
        if head.end <= position:
            continue
        stored = load(head)
        skip = position - head.offset
        data += stored.data[skip:]
        marks += cut_marks(stored.marks, skip, head.length)
        position = head.end
    last = max((head.position for head in group.heads if head.position is not None), default=None)
    ended = facts.end is not None and facts.end.length == position
    offset, blocks, start = group.heads[0].offset, [], 0
    while start < len(data):
        end = _cut(data, start)
        begun = _unfinished(before + data[:start], data[start : start + 1], facts.kind)
        blocks.append(
            seal(
                facts,
                offset + start,
                data[start:end],
                cut_marks(marks, start, end),
                begun,
                last,
                ended and end == len(data),
                head_length=len(begun) if start else group.heads[0].head,
            )
        )
        start = end
    return blocks


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


def _unfinished(data: bytes, following: bytes, kind: str) -> bytes:
    """Return what of `data` comes behind its last event's end, seen what byte follows."""
    return data[lines.last_end(data, kind, more=following == b"\n") :]
