"""The exact bytes of a stream, in order, each once, and what is missing named where it is missing.

Blocks may overlap (a worker that was replaced cut them differently) and may vanish between being
listed and being read (compacted): neither ever shows here. Memory is bounded by one batch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple, TypeAlias

from loghaul.chunk import EVENTS, Gap, Mark
from loghaul_ingest.block import BlockKey, Facts
from loghaul_ingest.errors import StoreDamaged
from loghaul_ingest.stores.base import Reader, Stored

#: What is read from a store at once ends with the block that passes one of these.
BATCH_BYTES = 4 * 1024 * 1024
BATCH_BLOCKS = 1024

#: A line longer than this is handed on in parts.
LONGEST_LINE_BYTES = 16 * 1024 * 1024


class Piece(NamedTuple):
    """Consecutive bytes of a stream; the lengths of the marks add up to len(data)."""

    offset: int
    data: bytes
    marks: tuple[Mark, ...]

    @property
    def end(self) -> int:
        """Offset of the first byte behind it."""
        return self.offset + len(self.data)


class Hole(NamedTuple):
    """The bytes [offset, offset + length) are not there.

    never    they will never come (a gap), or may still arrive
    """

    offset: int
    length: int
    reason: str
    never: bool

    @property
    def end(self) -> int:
        """Offset of the first byte behind it."""
        return self.offset + self.length


Item: TypeAlias = Piece | Hole


def pieces(reader: Reader, facts: Facts, start: int = 0, end: int | None = None) -> Iterator[Item]:
    """Yield the bytes of [start, end) of a stream and its holes, by offset, each byte once.

    Unknown stream: whatever its end and gaps say is missing. Raises StoreDamaged when a block is
    listed but cannot be read.
    """
    position, stuck = start, 0
    while end is None or position < end:
        if facts.end is not None and position == facts.end.length:
            break  # nothing comes behind it: not worth asking for
        wanted = _listed(reader, facts, position, end)
        if not wanted:
            break
        before = position
        for item in _batch(reader, facts, wanted, position, end):
            yield item
            position = item.end
        stuck = stuck + 1 if position == before else 0
        if stuck == 2:
            raise StoreDamaged(
                f"blocks of {facts.stream} behind byte {position:,} are listed but cannot be "
                "read; run `loghaul doctor`"
            )
    last = max(
        (facts.end.length if facts.end else 0, *(gap.offset + gap.length for gap in facts.gaps))
    )
    last = last if end is None else min(last, end)
    if position < last:
        yield from holes(facts, position, last)


def _listed(reader: Reader, facts: Facts, position: int, end: int | None) -> list[BlockKey]:
    """Return the next blocks that hold a byte of [position, end); none: nothing is stored there."""
    wanted, reach = [], position
    for head in islice(reader.heads(facts.stream, position, end), BATCH_BLOCKS):
        if head.end > reach:
            wanted.append(head.key)
            reach = head.end
        if reach - position > BATCH_BYTES:
            break
    return wanted


def _batch(
    reader: Reader, facts: Facts, wanted: Sequence[BlockKey], position: int, end: int | None
) -> Iterator[Item]:
    """Yield what these blocks give; ends early when one of them vanished meanwhile."""
    for key, stored in zip(wanted, reader.load(wanted), strict=False):
        if stored.head.key != key:
            return
        if stored.head.offset > position:
            yield from holes(facts, position, stored.head.offset)
            position = stored.head.offset
        piece = cut(stored.head.offset, stored, position, end)
        if piece.data:
            yield piece
            position = piece.end


def cut(offset: int, stored: Stored | Piece, start: int, end: int | None) -> Piece:
    """Return what of some bytes at `offset` lies in [start, end)."""
    data, marks = stored.data, stored.marks
    if marks and marks[0].length == 0:
        # When the line began that goes on here: a block's own note, which has no bytes.
        marks = marks[1:]
    skip = max(0, start - offset)
    keep = len(data) - skip if end is None else min(len(data), end - offset) - skip
    if skip == 0 and keep == len(data):
        return Piece(offset, data, marks)
    keep = max(0, keep)
    return Piece(offset + skip, data[skip : skip + keep], cut_marks(marks, skip, keep))


def cut_marks(marks: Iterable[Mark], skip: int, keep: int) -> tuple[Mark, ...]:
    """Return the marks of the bytes [skip, skip + keep)."""
    found = []
    for length, time_us in marks:
        over = min(skip, length)
        skip -= over
        taken = min(length - over, keep)
        keep -= taken
        if taken:
            found.append(Mark(taken, time_us))
    return tuple(found)


def holes(facts: Facts, start: int, end: int) -> Iterator[Hole]:
    """Yield the holes in [start, end), of which nothing is stored, split by reason."""
    for gap in sorted(facts.gaps):
        if gap.offset >= end:
            break
        reach = min(end, gap.offset + gap.length)
        if reach <= start:
            continue
        if gap.offset > start:
            yield _unexplained(facts, start, gap.offset)
            start = gap.offset
        yield Hole(start, reach - start, gap.reason, True)
        start = reach
    if start < end:
        yield _unexplained(facts, start, end)


def _unexplained(facts: Facts, start: int, end: int) -> Hole:
    if facts.end is None:
        return Hole(start, end - start, "not here yet", False)
    return Hole(start, end - start, "not reported", False)


def gaps_of(facts: Facts, missing: Iterable[tuple[int, int]]) -> list[Gap]:
    """Return holes as gaps with their reasons, for a listing."""
    return [
        Gap(hole.offset, hole.length, hole.reason)
        for offset, length in missing
        for hole in holes(facts, offset, offset + length)
    ]


_LINE_END = re.compile(rb"\n|\r(?!\n)")


def line_end(data: bytes, kind: str, start: int) -> int | None:
    """Return where the line at `start` ends, behind its terminator; None: not in these bytes.

    A `\\r` that is the last byte may be half of a `\\r\\n`: that is not an end yet.
    """
    if kind == EVENTS:
        return data.find(b"\n", start) + 1 or None
    match = _LINE_END.search(data, start)
    if match is None or (match.end() == len(data) and data[-1] == 13):
        return None
    return match.end()


def last_line_end(data: bytes, kind: str) -> int:
    """Return where the last whole line of `data` ends; 0 when none does."""
    end = data.rfind(b"\n") + 1
    if kind == EVENTS:
        return end
    state = data.rfind(b"\r", end, len(data) - 1) + 1
    return state or end


class LineCutter:
    """Cuts the items of a stream anew, at the ends of lines: no line lies in two pieces.

    A line before a hole ends where its bytes end; one longer than LONGEST_LINE_BYTES comes in
    parts.
    """

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._rest: list[Piece] = []
        self._held = 0

    def feed(self, item: Item) -> Iterator[Item]:
        """Yield what is whole now."""
        if isinstance(item, Hole):
            yield from self.finish()
            yield item
            return
        if not item.data:
            return
        if self._rest and self._state_ended(item.data):
            yield from self.finish()
        end = last_line_end(item.data, self._kind)
        if end:
            whole = cut(item.offset, item, item.offset, item.offset + end)
            yield joined_pieces([*self._rest, whole])
            item, self._rest, self._held = cut(item.offset, item, item.offset + end, None), [], 0
        if item.data:
            self._rest.append(item)
            self._held += len(item.data)
        if self._held > LONGEST_LINE_BYTES:
            yield from self.finish()

    def finish(self) -> Iterator[Item]:
        """Yield the unfinished rest: no more bytes of it come."""
        if self._rest:
            yield joined_pieces(self._rest)
        self._rest, self._held = [], 0

    def _state_ended(self, data: bytes) -> bool:
        """Return whether the `\\r` before `data` was the end of a state, not half of a `\\r\\n`."""
        carriage = self._kind != EVENTS and self._rest[-1].data[-1:] == b"\r"
        return carriage and data[:1] != b"\n"


def whole_lines(items: Iterable[Item], kind: str) -> Iterator[Item]:
    """Cut all items of a stream at the ends of lines; the last line ends with its bytes."""
    cutter = LineCutter(kind)
    for item in items:
        yield from cutter.feed(item)
    yield from cutter.finish()


def joined_pieces(parts: list[Piece]) -> Piece:
    """Return consecutive pieces as one."""
    if len(parts) == 1:
        return parts[0]
    marks = tuple(mark for part in parts for mark in part.marks)
    return Piece(parts[0].offset, b"".join(part.data for part in parts), marks)
