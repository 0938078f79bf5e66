"""Several streams as one file: line by line in order of arrival, no line broken by another's.

Exactness is a property of streams; a merged file is a way to read two of them. The only byte that
merging ever adds is a newline, where a line that was never finished is followed by a line of
another stream. What arrived together is handed on together: nothing here loops over lines.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from loghaul.chunk import EVENTS, Mark
from loghaul_ingest.pieces import Hole, Item, Piece, line_end

#: What is written at once.
WRITE_BYTES = 1 << 20


class Part(NamedTuple):
    """Something of one of the merged streams: `source` is its place in what was merged."""

    source: int
    item: Item


def merge(streams: Sequence[tuple[Iterable[Item], str]]) -> Iterator[Part]:
    """Merge streams (their items, their kind) by the time at which each line's first byte came."""
    cursors = [_Cursor(iter(items), kind) for items, kind in streams]
    waiting = [index for index, cursor in enumerate(cursors) if cursor.advance()]
    while waiting:
        index = min(waiting, key=lambda i: cursors[i].time_us)
        others = [cursors[i].time_us for i in waiting if i != index]
        for item in cursors[index].take(min(others) if others else None):
            yield Part(index, item)
        if cursors[index].done:
            waiting.remove(index)


def joined(parts: Iterable[Part]) -> Iterator[bytes | Hole]:
    """Yield the bytes of merged parts in large pieces, and the holes between them."""
    buffer: list[bytes] = []
    held, source, open_line = 0, -1, False
    for part in parts:
        if isinstance(part.item, Hole):
            if buffer:
                yield b"".join(buffer)
            buffer, held = [], 0
            yield part.item
            continue
        data = part.item.data
        if open_line and part.source != source:
            buffer.append(b"\n")
        source, open_line = part.source, data[-1] not in b"\r\n"
        buffer.append(data)
        held += len(data)
        if held >= WRITE_BYTES:
            yield b"".join(buffer)
            buffer, held = [], 0
    if buffer:
        yield b"".join(buffer)


class _Cursor:
    """Where merging stands in one stream."""

    __slots__ = ("_at", "_items", "_kind", "_left", "_mark", "_piece", "done", "time_us")

    def __init__(self, items: Iterator[Item], kind: str) -> None:
        self._items, self._kind = items, kind
        self._piece: Item | None = None
        self.done = False
        self.time_us = 0

    def advance(self) -> bool:
        """Go to the next item; False when there is none."""
        self._piece = next(self._items, None)
        self._at = self._mark = 0
        if self._piece is None:
            self.done = True
        elif isinstance(self._piece, Hole):
            self.time_us = -1
        elif not self._piece.data:
            return self.advance()
        else:
            # Bytes of the current mark that are not taken yet.
            self._left, self.time_us = self._piece.marks[0]
        return not self.done

    def take(self, until_us: int | None) -> Iterator[Item]:
        """Yield the lines that came first, up to `until_us`, and at least one."""
        piece = self._piece
        if until_us is None or not isinstance(piece, Piece):
            rest = piece if self._at == 0 or not isinstance(piece, Piece) else self._slice(None)
            assert rest is not None
            yield rest
            self.advance()
            return
        start, stop = self._at, self._at + self._left
        index = self._mark + 1
        while index < len(piece.marks) and piece.marks[index].time_us <= until_us:
            stop += piece.marks[index].length
            index += 1
        if stop < len(piece.data):
            end = stop if _ended(piece.data, stop, self._kind) else None
            end = end or line_end(piece.data, self._kind, stop)
            if end is not None and end < len(piece.data):
                yield self._slice(end)
                self._seek(start, end)
                return
        yield self._slice(None)
        yield from self._finish(piece.data)

    def _finish(self, data: bytes) -> Iterator[Item]:
        """A line must not be left open: take the rest of it from the items that follow."""
        while self.advance() and isinstance(self._piece, Piece):
            following = self._piece.data
            if data[-1] == 10 or (self._kind != EVENTS and data[-1] == 13 and following[0] != 10):
                return
            end = line_end(following, self._kind, 0)
            if end is not None and end < len(following):
                yield self._slice(end)
                self._seek(0, end)
                return
            yield self._piece
            data = following

    def _slice(self, end: int | None) -> Piece:
        """Return [at, end) of the current piece."""
        piece = self._piece
        assert isinstance(piece, Piece)
        end = len(piece.data) if end is None else end
        if self._at == 0 and end == len(piece.data):
            return piece
        return Piece(piece.offset + self._at, piece.data[self._at : end], self._marks(end))

    def _marks(self, end: int) -> tuple[Mark, ...]:
        """Return the marks of [at, end); only these are walked, or merging would be quadratic."""
        assert isinstance(self._piece, Piece)
        marks, index = self._piece.marks, self._mark
        keep, left, found = end - self._at, self._left, []
        while keep > left:
            found.append(Mark(left, marks[index].time_us))
            keep -= left
            index += 1
            left = marks[index].length
        found.append(Mark(keep, marks[index].time_us))
        return tuple(found)

    def _seek(self, start: int, end: int) -> None:
        """Move on to `end` in the current piece, which has bytes behind it."""
        piece = self._piece
        assert isinstance(piece, Piece)
        over = end - start
        while over >= self._left:
            over -= self._left
            self._mark += 1
            self._left = piece.marks[self._mark].length
        self._left -= over
        self._at = end
        self.time_us = piece.marks[self._mark].time_us


def _ended(data: bytes, stop: int, kind: str) -> bool:
    """Return whether a line ends exactly before `stop`, which is not the end of `data`."""
    last = data[stop - 1]
    return last == 10 or (kind != EVENTS and last == 13 and data[stop] != 10)
