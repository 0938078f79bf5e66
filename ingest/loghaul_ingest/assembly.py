"""What the assembler knows of one stream, and of one partition.

A byte of a stream is in one of these places: `waiting` (fetched before it was known what is
stored), `growing` (not sealed), `sealed` (a block that nobody took), `flying` (a batch on its way),
`stored`. `claimed` is all but the first: what comes again is dropped.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from loghaul.chunk import Chunk, End, Gap, Mark
from loghaul_ingest.block import Block, BlockKey, Extent, Facts
from loghaul_ingest.growing import (
    NOTHING,
    Beginning,
    Cut,
    Growing,
    Limits,
    behind,
    slice_marks,
)
from loghaul_ingest.ranges import Ranges

#: Makes a block of a cut; the number is the last transport position it may hold. Pure.
Seal = Callable[[Facts, Cut, int | None], Block]

#: So many undersized blocks of an open stream are worth merging.
MANY_SMALL = 64


class Piece(NamedTuple):
    """Bytes that are to be placed."""

    offset: int
    data: bytes
    marks: Sequence[Mark]
    position: int | None


class Item(NamedTuple):
    """Something fetched, in a partition's order; done when its bytes and facts are durable."""

    position: Any
    stream: Stream | None
    start: int
    end: int
    version: int

    @property
    def done(self) -> bool:
        """Whether its position may be committed."""
        stream = self.stream
        return stream is None or stream.has(self.start, self.end, self.version)


class Partition:
    """The items of a partition in fetched order, and its streams."""

    def __init__(self, token: Hashable) -> None:
        self.token = token
        self.items: deque[Item] = deque()
        self.passed = 0
        self.streams: dict[Any, Stream] = {}
        #: How often records of it were lost, and why the last time.
        self.losses, self.lost = 0, ""

    def commit(self) -> Any:
        """Return the position behind everything durable, None when nothing new is."""
        position = None
        while self.items and self.items[0].done:
            item = self.items.popleft()
            self.passed += 1
            # What is one of several chunks of a record has none; the last one's counts.
            position = position if item.position is None else item.position
        return position


class Stream:
    """One stream of one partition."""

    def __init__(self, chunk: Chunk, partition: Partition, seal: Seal, limits: Limits) -> None:
        self.key, self.kind, self.started = chunk.key, chunk.kind, chunk.started
        self.partition = partition
        self.common: Mapping[str, Any] | None = None
        self.end: End | None = None
        self.gaps: list[Gap] = []
        self.known = self.deleted = self.dead = self.finished = False
        self.touched_us = self.ended_us = 0
        self.losses = self.lost_until = 0
        self.asking = False
        self.waiting: list[Piece] = []
        self.growing: list[Growing] = []
        self.sealed: list[Block] = []
        self.stored, self.claimed = Ranges(), Ranges()
        self.small_blocks = 0
        self.version = 0
        self.accounted = (0, 0)
        self._flying: dict[int, Sequence[Block]] = {}
        self._flying_bytes = 0
        self._heads: dict[int, Beginning] = {}
        self._sent_version = self._durable_version = 0
        self._seal, self._limits = seal, limits

    # -- facts ----------------------------------------------------------------------------------

    def note(self, chunk: Chunk, now_us: int) -> int:
        """Take the facts of a chunk; return how many gaps are new."""
        before = (self.common, self.end, len(self.gaps))
        if chunk.common is not None and self.common is None:
            self.common = chunk.common
        if chunk.end is not None and self.end is None:
            self.end, self.ended_us = chunk.end, now_us
        for gap in chunk.gaps:
            if gap not in self.gaps:
                insort(self.gaps, gap)
        if before != (self.common, self.end, len(self.gaps)):
            self.version += 1
        return len(self.gaps) - before[2]

    def facts(self) -> Facts:
        """What is known of the stream as a whole."""
        common = self.common or {}
        return Facts(self.key, self.kind, self.started, common, self.end, tuple(self.gaps))

    @property
    def has_news(self) -> bool:
        """Whether facts changed since they were last sent."""
        return self.known and not self.deleted and self.version > self._sent_version

    def has(self, start: int, end: int, version: int) -> bool:
        """Whether these bytes, and facts of that version, are durable, or not wanted any more."""
        return self.deleted or (self._durable_version >= version and self.stored.covers(start, end))

    def give_up_holes(self) -> int:
        """Turn the holes of an ended stream into gaps; return how many."""
        return self._give_up(self.end.length, "never arrived") if self.end is not None else 0

    def give_up_lost(self) -> int:
        """Turn the holes before what came after a loss into gaps; return how many."""
        until, self.lost_until = self.lost_until, 0
        return self._give_up(until, self.partition.lost)

    def _give_up(self, until: int, reason: str) -> int:
        known = Ranges((gap.offset, gap.offset + gap.length) for gap in self.gaps)
        missing = [
            (start, end)
            for a, b in self.claimed.missing(0, until)
            for start, end in known.missing(a, b)
        ]
        for start, end in missing:
            insort(self.gaps, Gap(start, end - start, reason))
        self.version += bool(missing)
        return len(missing)

    # -- bytes ----------------------------------------------------------------------------------

    def place(self, piece: Piece, now_us: int) -> int:
        """Take the bytes that are nowhere yet, seal what is full; return how many were new."""
        offset, data, marks, position = piece
        fresh = self.claimed.missing(offset, offset + len(data))
        if fresh == [(offset, offset + len(data))]:
            self._grow(piece, data, marks, now_us, 0)
        elif fresh:
            ends = list(accumulate((mark.length for mark in marks), initial=offset))[1:]
            for start, end in fresh:
                part = data[start - offset : end - offset]
                cut = Piece(start, part, slice_marks(marks, ends, start, end), position)
                self._grow(cut, data, marks, now_us, start - offset)
        growing = self.growing
        if self.gaps or len(growing) != 1 or growing[0].end != self.claimed.end:
            self._settle()
        return sum(end - start for start, end in fresh)

    def cut_aged(self, until_us: int) -> None:
        """Seal what is old."""
        for growing in self.growing:
            self._keep(growing, growing.cut_aged(until_us))

    def cut_all(self) -> None:
        """Seal everything; bytes may follow."""
        for growing in self.growing:
            self._keep(growing, growing.cut_all())

    def cut_ended(self) -> None:
        """Seal everything of a stream that ended."""
        if self.end is not None:
            self._settle()
            for growing in self.growing:
                self._keep(growing, growing.cut_all(growing.end >= self.end.length))

    def _grow(
        self, piece: Piece, data: bytes, marks: Sequence[Mark], now_us: int, before: int
    ) -> None:
        """Append a fresh piece where bytes grow; `data[:before]` stands before it."""
        growing = next((g for g in self.growing if g.end == piece.offset), None)
        if growing is None:
            head = self._head_before(piece.offset - before)
            head = behind(head, data[:before], marks, self.kind)
            growing = Growing(self.kind, piece.offset, head, self._limits)
            insort(self.growing, growing, key=lambda g: g.offset)
        growing.append(piece.data, piece.marks, now_us)
        growing.position = piece.position
        self.claimed.add(piece.offset, growing.end)
        if len(self.growing) > 1:
            self._join(growing)
        self._keep(growing, growing.cut_full())

    def _head_before(self, offset: int) -> Beginning:
        """Return the unfinished event before `offset`, as far as it is on its way."""
        if offset in self._heads:
            return self._heads[offset]
        flying = (block for blocks in self._flying.values() for block in blocks)
        block = next((block for block in flying if block.head.end == offset), None)
        if block is None or not block.head.length:
            return NOTHING
        head = self._head_before(block.head.offset)
        return behind(head, block.data, block.marks, self.kind)

    def _join(self, growing: Growing) -> None:
        """Where the next growing bytes begin right behind, they are one."""
        follower = next(
            (g for g in self.growing if g.offset == growing.end and g.length and g is not growing),
            None,
        )
        if follower is not None:
            growing.absorb(follower)
            self.growing.remove(follower)

    def _settle(self) -> None:
        """End what can never grow: bytes that reach a gap, or bytes already placed."""
        gaps = {gap.offset for gap in self.gaps}
        starts = {g.offset for g in self.growing if g.length}
        for growing in list(self.growing):
            end = growing.end
            if end in gaps or (end not in starts and self.claimed.covers(end, end + 1)):
                self._keep(growing, growing.cut_all(True))
                self.growing.remove(growing)

    def _keep(self, growing: Growing, cuts: Iterable[Cut]) -> None:
        facts = None
        for cut in cuts:
            facts = facts or self.facts()
            self.sealed.append(self._seal(facts, cut, growing.position))
            self.small_blocks += len(cut.data) * 4 < self._limits.block_bytes

    # -- on the way to the store ----------------------------------------------------------------

    def lowest_waiting(self) -> int:
        """Return the lowest offset that waits to be placed."""
        return min((piece.offset for piece in self.waiting), default=0)

    def learn(self, extent: Extent, at_offset: int, head: Beginning) -> list[Piece]:
        """Take what is stored, and the unfinished line before an offset; return what to place."""
        at = 0
        for offset, length in (*extent.holes, (extent.end, 0)):
            self.stored.add(at, offset)
            at = offset + length
        self.claimed = Ranges((*self.stored, *self._flying_ranges()))
        self.known = True
        if head.length:
            self.growing = [Growing(self.kind, at_offset, head, self._limits)]
        waiting, self.waiting = self.waiting, []
        return sorted(waiting, key=lambda piece: piece.offset)

    def take(self, max_bytes: int) -> list[Block]:
        """Return sealed blocks, lowest offsets first, at least one."""
        self.sealed.sort(key=lambda block: block.head.offset)
        count = total = 0
        while count < len(self.sealed) and (not count or total < max_bytes):
            total += len(self.sealed[count].data)
            count += 1
        taken, self.sealed = self.sealed[:count], self.sealed[count:]
        return taken

    def depart(self, number: int, blocks: Sequence[Block], version: int) -> None:
        """A batch with these blocks, and facts of that version (0: none), is on its way."""
        self._flying[number] = blocks
        self._flying_bytes += sum(len(block.data) for block in blocks)
        self._sent_version = max(self._sent_version, version)

    def arrive(
        self, number: int, version: int, conflicts: Collection[BlockKey], dead: Mapping[Any, str]
    ) -> list[Block]:
        """It is durable but for the conflicts; return the blocks that were not written."""
        lost = []
        for block in self._flying.pop(number, ()):
            self._flying_bytes -= len(block.data)
            if block.head.key in conflicts:
                lost.append(block)
                continue
            self.stored.add(block.head.offset, block.head.end)
            if block.head.key in dead:
                insort(self.gaps, Gap(*block.head.key[1:], block.head.length, dead[block.head.key]))
                self.version += 1
        self._durable_version = max(self._durable_version, version)
        return lost

    def withdraw(self, lost: Sequence[Block]) -> None:
        """Another writer was first: everything that is not on its way waits to be placed anew."""
        for block in (*lost, *self.sealed):
            head = block.head
            self.waiting.append(Piece(head.offset, block.data, block.marks, head.position))
        self._heads = {growing.offset: growing.head for growing in self.growing}
        for growing in self.growing:
            if growing.length:
                self.waiting.append(Piece(*growing.give_back(), growing.position))
        self.growing, self.sealed = [], []

    def delete(self) -> None:
        """Its run was deleted."""
        self.known = self.deleted = True
        self.waiting, self.growing, self.sealed = [], [], []

    def _flying_ranges(self) -> list[tuple[int, int]]:
        blocks = [block.head for batch in self._flying.values() for block in batch]
        return [(head.offset, head.end) for head in blocks]

    # -- state ----------------------------------------------------------------------------------

    @property
    def oldest_us(self) -> int:
        """When the oldest byte that is not sealed came."""
        return min((g.since_us for g in self.growing if g.length), default=1 << 62)

    @property
    def resting(self) -> bool:
        """Whether nothing of it is on its way anywhere."""
        return not (self.waiting or self.sealed or self._flying or self.has_news) and not any(
            growing.length for growing in self.growing
        )

    @property
    def complete(self) -> bool:
        """Whether it ended and every byte is stored or a gap."""
        if self.end is None or not self.known or not self.resting:
            return False
        if self._durable_version < self.version:
            return False
        there = Ranges((*self.stored, *((g.offset, g.offset + g.length) for g in self.gaps)))
        return there.covers(0, self.end.length)

    def sizes(self) -> tuple[int, int]:
        """Return (bytes not sealed, bytes not durable)."""
        growing = sum(g.length for g in self.growing)
        held = sum(len(piece.data) for piece in self.waiting) + growing
        held += sum(len(block.data) for block in self.sealed)
        return growing, held + self._flying_bytes
