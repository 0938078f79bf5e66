"""Gives what foreign records say a place in streams, so that repeats are recognised by arithmetic.

The place of an entry is the sum of what came before it in its stream, and that is a function of
the records alone: they are read in order, they do not change, and `adapt` is pure. So it is enough
to know one point of a stream: this byte is where the bytes of that record begin. Every block notes
one (`pack`): the last record that it holds bytes of, and how many. A worker that meets a stream
asks for what is stored of it, takes the point of the block that ends before the first missing
byte, and counts on from there. What comes again gets the offset that it had and is dropped there.

What ends this: a topic made anew under the same name begins its positions anew (its partitions
must then have another name); and records that the topic gave up before they were read are not
known to have been there.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from loghaul.chunk import Chunk, Mark, Record, StreamKey
from loghaul_ingest.block import Extent
from loghaul_ingest.errors import StoreError
from loghaul_ingest.foreign import said
from loghaul_ingest.foreign.detect import adapt
from loghaul_ingest.foreign.entry import MAX_ENTRY_BYTES, Entry, ForeignError, Target, target
from loghaul_ingest.sources.base import Fetched, Partition
from loghaul_ingest.stores.base import Reader

#: Streams of a partition that are remembered at a time; those behind are asked for again.
MAX_STREAMS = 4096
#: How often the store is asked for a block that it says it has, and how long between.
TRIES, PAUSE_SECONDS = 25, 0.2

_BITS = MAX_ENTRY_BYTES.bit_length()

Extents = Callable[[Mapping[StreamKey, int]], Awaitable[Mapping[StreamKey, Extent | None]]]


class Point(NamedTuple):
    """The byte before which `length` bytes of the record at `position` stand, and no later ones."""

    position: int
    length: int


def pack(point: Point) -> int:
    """Return a point as the one number that a block notes; greater numbers are later points."""
    return point.position << _BITS | point.length


def unpack(number: int) -> Point:
    """Return the point that a block of a foreign stream notes."""
    return Point(number >> _BITS, number & MAX_ENTRY_BYTES)


def is_foreign(record: object) -> bool:
    """Whether a record is none of loghaul's chunks."""
    return isinstance(record, Record) and all(name != "schema" for name, _ in record.headers)


class _Stream:
    """A stream of one partition: where its next byte goes, and where its records began."""

    def __init__(self, of: Target, kind: str, started: int, at: int, last: Point) -> None:
        self.target, self.kind, self.started = of, kind, started
        self.next, self.last = at, last
        self._positions: list[int] = []
        self._starts: list[int] = []

    def place(self, position: int, length: int) -> int | None:
        """Return the offset of the bytes of a record; None: it was stored, and more behind it."""
        if position < self.last.position:
            return None
        if position == self.last.position:
            self.next -= self.last.length
        self.last = Point(position, length)
        start = self.next
        self.next += length
        self._positions.append(position)
        self._starts.append(start)
        return start

    def point(self, end: int) -> Point | None:
        """Return what a block that ends at an offset has to note."""
        number = bisect_left(self._starts, end) - 1
        if number < 0:
            return None
        return Point(self._positions[number], end - self._starts[number])

    def prune(self, committed: int) -> bool:
        """Forget records that are durable; True when all are."""
        count = bisect_right(self._positions, committed)
        del self._positions[:count], self._starts[:count]
        return not self._positions


class _Partition:
    """What waits for its place, and the streams that are known."""

    def __init__(self) -> None:
        self.waiting: list[tuple[int, list[Entry], int]] = []
        self.streams: dict[StreamKey, _Stream] = {}
        self.committed = -1


class Foreign:
    """The stage between a source's foreign records and the assembler. Used from one loop."""

    def __init__(self, extents: Extents, reader: Reader, note: Callable[..., None]) -> None:
        """`extents`: that of the store's writer, insisted on; `reader` of the same store."""
        self._extents, self._reader, self._note = extents, reader, note
        self._partitions: dict[Partition, _Partition] = {}
        self._of: dict[StreamKey, _Stream] = {}

    def take(self, event: Fetched) -> int:
        """Read a record and keep what it says for `chunks`; return about how many bytes.

        Raises ForeignError for one that cannot be read: nothing of it was kept.
        """
        if not isinstance(event.position, int) or not isinstance(event.record, Record):
            raise ForeignError("record is not a chunk, and its source does not number its records")
        if event.position.bit_length() + _BITS > 63:
            raise ForeignError(f"position {event.position} is more than a block can note")
        arrived_us = event.time_us or said.now_us()
        entries = adapt(event.record, arrived_us)
        partition = self._partitions.setdefault(event.partition, _Partition())
        partition.waiting.append((event.position, entries, arrived_us))
        return sum(len(entry.data) for entry in entries) + 1

    @property
    def waiting(self) -> Sequence[Partition]:
        """Partitions of which records were taken that are in no chunk yet."""
        return [token for token, partition in self._partitions.items() if partition.waiting]

    async def chunks(self, token: Partition) -> list[tuple[int | None, Chunk | None]]:
        """Return what was taken of a partition, as chunks, and behind them the last position.

        A position without a chunk may be committed when all chunks before it are durable.
        """
        partition = self._partitions[token]
        await self._learn(token, partition)
        waiting, partition.waiting = partition.waiting, []
        found: dict[StreamKey, _Growth] = {}
        for position, entries, arrived_us in waiting:
            self._place(token, partition, found, position, entries, arrived_us)
        chunks: list[tuple[int | None, Chunk | None]] = [
            (None, growth.chunk()) for growth in found.values()
        ]
        if waiting:
            chunks.append((waiting[-1][0], None))
        return chunks

    def revoked(self, token: Partition) -> None:
        """A partition is ours no more: forget its streams."""
        partition = self._partitions.pop(token, None)
        for key in partition.streams if partition else ():
            self._of.pop(key, None)

    def committed(self, token: Partition, position: object) -> None:
        """Everything up to a position is durable."""
        if token in self._partitions and isinstance(position, int):
            self._partitions[token].committed = position

    def note_of(self, stream: StreamKey, end: int, position: int | None) -> int | None:
        """Return what a block that ends at `end` notes: of others' streams `position`."""
        known = self._of.get(stream)
        if known is None:
            return position
        point = known.point(end)
        return None if point is None else pack(point)

    # -- inside

    def _place(
        self,
        token: Partition,
        partition: _Partition,
        found: dict[StreamKey, _Growth],
        position: int,
        entries: Sequence[Entry],
        arrived_us: int,
    ) -> None:
        said_by: dict[StreamKey, list[Entry]] = {}
        for entry in entries:
            key = target(token.name, entry.producer, entry.name).key
            said_by.setdefault(key, []).append(entry)
        # A stream that was forgotten meanwhile cannot be among them: `_learn` knows them all.
        for key, own in said_by.items():
            stream = partition.streams[key]
            if key not in found:
                stream.prune(partition.committed)
            offset = stream.place(position, sum(len(entry.data) for entry in own))
            if offset is not None:
                growth = found.get(key) or found.setdefault(key, _Growth(stream, offset))
                growth.append(own, arrived_us)

    async def _learn(self, token: Partition, partition: _Partition) -> None:
        """Get to know the streams that are met for the first time."""
        new: dict[StreamKey, tuple[Target, str, int]] = {}
        for _, entries, arrived_us in partition.waiting:
            for entry in entries:
                of = target(token.name, entry.producer, entry.name)
                if of.key not in partition.streams and of.key not in new:
                    new[of.key] = (of, entry.kind, arrived_us)
        if not new:
            return
        extents = await self._extents({key: one[2] for key, one in new.items()})
        starts = await self._starts({k.run for k in new if (extents[k] or Extent()).end})
        for key, (of, kind, arrived_us) in new.items():
            at, last = await self._known_point(key, arrived_us, extents[key] or Extent())
            stream = _Stream(of, kind, starts.get(key, arrived_us), at, last)
            partition.streams[key] = self._of[key] = stream
        self._forget(partition, new.keys())

    async def _starts(self, runs: Collection[str]) -> dict[StreamKey, int]:
        """Return when streams started that are stored: a store may sort them by that."""

        def read() -> dict[StreamKey, int]:
            rows = (row for run in runs for row in self._reader.streams(run))
            return {row.facts.stream: row.facts.started for row in rows}

        try:
            return await asyncio.to_thread(read)
        except StoreError as error:
            self._note("the start of a stream cannot be read", error=str(error))
            return {}

    async def _known_point(self, key: StreamKey, started: int, extent: Extent) -> tuple[int, Point]:
        """Return the first missing byte, and which record stands before it."""
        nothing = Point(-1, 0)
        for _ in range(TRIES):
            at = extent.holes[0][0] if extent.holes else extent.end
            if at == 0:
                return 0, nothing
            number = await asyncio.to_thread(self._noted, key, at)
            if number is not None:
                return at, unpack(number)
            # The store knows the block, but its readers do not see it yet.
            await asyncio.sleep(PAUSE_SECONDS)
            extent = (await self._extents({key: started}))[key] or Extent()
        self._note(
            "no block says where a foreign stream goes on; lines may repeat", stream=str(key)
        )
        return extent.end, nothing

    def _noted(self, key: StreamKey, at: int) -> int | None:
        try:
            heads = self._reader.heads(key, at - 1, at)
            noted = [head.position for head in heads if head.end == at]
        except StoreError as error:
            self._note("blocks of a foreign stream cannot be read", error=str(error))
            return None
        return max((number for number in noted if number is not None), default=None)

    def _forget(self, partition: _Partition, wanted: Collection[StreamKey]) -> None:
        """Of too many streams those go of which everything is durable, known longest first."""
        for key in list(partition.streams):
            if len(partition.streams) <= MAX_STREAMS:
                return
            if key not in wanted and partition.streams[key].prune(partition.committed):
                del partition.streams[key], self._of[key]


class _Growth:
    """Bytes that a stream gets in one go."""

    def __init__(self, stream: _Stream, offset: int) -> None:
        self._stream, self._offset = stream, offset
        self._data: list[bytes] = []
        self._marks: list[Mark] = []

    def append(self, entries: Sequence[Entry], arrived_us: int) -> None:
        """Append what one record says."""
        for entry in entries:
            self._data.append(entry.data)
            time_us = entry.time_us or arrived_us
            if self._marks and self._marks[-1].time_us == time_us:
                self._marks[-1] = Mark(self._marks[-1].length + len(entry.data), time_us)
            elif entry.data:
                self._marks.append(Mark(len(entry.data), time_us))

    def chunk(self) -> Chunk:
        """Return it as a chunk."""
        stream = self._stream
        data = b"".join(self._data)
        common = dict(stream.target.common)
        return Chunk(
            stream.target.key,
            stream.kind,
            self._offset,
            data,
            tuple(self._marks),
            stream.started,
            common,
        )
