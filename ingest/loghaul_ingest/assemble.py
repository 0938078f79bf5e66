"""The core of the worker: chunks in, blocks and commits out. No input, no output, no clock.

What it promises, whatever order things happen in:
- every byte fetched becomes part of a block exactly once: ingest is a write at an offset. The
  assembler asks what is stored of a stream when it first meets it, drops every byte it has or has
  on its way, and writes the rest at once, wherever it lies; what is between is a hole until it
  comes, and a gap when it is reported lost or its stream has ended
- a block that was not created because another writer was first goes back: the extent is asked
  again, and what the winner does not hold goes on from there
- a position is committed only when every byte fetched before it in its partition is durable.
  Positions are opaque: what counts is the order in which they were fetched
- what is known of a partition's streams is forgotten when it is revoked

The shell (`worker.py`) fetches, asks, writes and commits. Everything here is called from one
thread, and so small and plain that a seeded simulation runs it through thousands of orders.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from loghaul.chunk import Chunk, StreamKey
from loghaul_ingest.assembly import MANY_SMALL, Item, Partition, Piece, Seal, Stream
from loghaul_ingest.block import Block, BlockKey, Extent, Facts
from loghaul_ingest.growing import Beginning, Limits
from loghaul_ingest.stores.base import Batch


class Ask(NamedTuple):
    """A question for the store: what is there of this stream?

    start     the lowest offset that waits for the answer
    started   when its writer started, microseconds
    """

    stream: StreamKey
    kind: str
    start: int
    serial: int
    started: int


class Write(NamedTuple):
    """A batch on its way, with the number that its reply names."""

    number: int
    batch: Batch


@dataclass
class Counts:
    """What happened so far, for metrics and the log."""

    chunks: int = 0
    bytes: int = 0
    repeated_bytes: int = 0
    dropped_bytes: int = 0
    blocks: int = 0
    conflicts: int = 0
    holes: int = 0
    gaps: int = 0
    dead_letters: int = 0


class Assembler:
    """The state machine. Times are microseconds of a clock that only goes forward."""

    def __init__(self, seal: Seal, limits: Limits | None = None, patience_us: int = 0) -> None:
        """`patience_us`: how long a hole of an ended stream is waited for before it is a gap."""
        self.counts = Counts()
        self.open_bytes = self.held_bytes = 0
        self._seal = seal
        self._limits = limits or Limits()
        self._patience_us = patience_us
        self._partitions: dict[Hashable, Partition] = {}
        self._asks: dict[int, Stream] = {}
        self._asking: dict[int, Stream] = {}
        self._open: dict[Stream, None] = {}
        self._ready: dict[Stream, None] = {}
        self._ended: dict[Stream, None] = {}
        self._flying: dict[int, list[tuple[Stream, list[Block], int]]] = {}
        self._due: dict[Partition, None] = {}
        self._compactable: dict[StreamKey, None] = {}
        self._serial = 0

    # -- what is to be done ---------------------------------------------------------------------

    @property
    def settled(self) -> bool:
        """Whether nothing waits: all that was fetched is durable."""
        return not (self._asks or self._asking or self._flying or self._open or self._ready)

    @property
    def open_blocks(self) -> int:
        """Streams with bytes that are not sealed yet."""
        return len(self._open)

    def asks(self) -> list[Ask]:
        """Questions not asked yet; each is to be answered by `learned`."""
        found = [
            Ask(stream.key, stream.kind, stream.lowest_waiting(), serial, stream.started)
            for serial, stream in self._asks.items()
        ]
        self._asking.update(self._asks)
        self._asks.clear()
        return found

    def take(self, max_bytes: int) -> Write | None:
        """Sealed blocks and new facts, to be written and answered by `written`; None: none."""
        parts: list[tuple[Stream, list[Block], int]] = []
        facts: list[Facts] = []
        for stream in list(self._ready):
            if max_bytes <= 0:
                break
            blocks = stream.take(max_bytes)
            max_bytes -= sum(len(block.data) for block in blocks)
            version = stream.version if stream.has_news else 0
            if version:
                facts.append(stream.facts())
            if blocks or version:
                parts.append((stream, blocks, version))
            if not stream.sealed:
                del self._ready[stream]
        if not parts:
            return None
        self._serial += 1
        for stream, blocks, version in parts:
            stream.depart(self._serial, blocks, version)
        self._flying[self._serial] = parts
        return Write(self._serial, Batch([b for _, blocks, _ in parts for b in blocks], facts))

    def commits(self) -> dict[Hashable, Any]:
        """Positions, by partition, up to which everything is durable; each is given once."""
        found = {}
        for partition in self._due:
            position = partition.commit()
            if position is not None and self._partitions.get(partition.token) is partition:
                found[partition.token] = position
        self._due.clear()
        return found

    def mark(self) -> dict[Hashable, int]:
        """Return a mark behind everything fetched so far, for `is_past`."""
        return {token: p.passed + len(p.items) for token, p in self._partitions.items()}

    def is_past(self, mark: Mapping[Hashable, int]) -> bool:
        """Whether everything before a mark was given to `commits` (or is not ours any more)."""
        return all(
            token not in self._partitions or self._partitions[token].passed >= count
            for token, count in mark.items()
        )

    def compactable(self) -> StreamKey | None:
        """Take a stream with small blocks, ended or slow, worth merging when there is time."""
        key = next(iter(self._compactable), None)
        if key is not None:
            del self._compactable[key]
        return key

    # -- what happened --------------------------------------------------------------------------

    def assigned(self, token: Hashable) -> None:
        """A partition is ours. The token is new: an epoch is part of it."""
        self._partitions[token] = Partition(token)

    def revoked(self, token: Hashable) -> None:
        """A partition is ours no more: forget what is known of its streams."""
        partition = self._partitions.pop(token, None)
        for stream in list(partition.streams.values()) if partition else ():
            whole = stream.complete and not stream.deleted
            self._forget(stream)
            if whole:
                # A spool's directory is given back as soon as all of it is durable.
                self._compactable[stream.key] = None

    def lost(self, token: Hashable, reason: str) -> None:
        """Records of a partition are gone: what lacks before the next one of a stream is a gap."""
        partition = self._partitions.get(token)
        if partition is not None:
            partition.losses, partition.lost = partition.losses + 1, reason

    def fetched(self, token: Hashable, position: Any, chunk: Chunk | None, now_us: int) -> None:
        """A record came; `chunk` is None for one that went to the dead letters."""
        partition = self._partitions.get(token)
        if partition is None:
            return
        self._due[partition] = None
        if chunk is None:
            partition.items.append(Item(position, None, 0, 0, 0))
            return
        stream = partition.streams.get(chunk.key)
        if stream is None:
            stream = Stream(chunk, partition, self._seal, self._limits)
            partition.streams[chunk.key] = stream
            self._ask(stream)
        if stream.losses != partition.losses:
            stream.losses, stream.lost_until = partition.losses, chunk.offset
        self._accept(stream, chunk, position, now_us)
        end = chunk.offset + len(chunk.data)
        partition.items.append(Item(position, stream, chunk.offset, end, stream.version))

    def learned(
        self, ask: Ask, extent: Extent | None, at_offset: int, head: Beginning, now_us: int
    ) -> None:
        """The store answered. `head`: how the event before the first missing byte began.

        extent      None: the run was deleted
        at_offset   where that byte is: the first one from `ask.start` on that is not stored
        """
        stream = self._asking.pop(ask.serial, None)
        if stream is None or stream.dead:
            return
        stream.asking = False
        if extent is None:
            self._drop(stream)
            return
        self.counts.holes += len(extent.holes)
        for piece in stream.learn(extent, at_offset, head):
            self._place(stream, piece, now_us)
        self._finish(stream, now_us)
        self._account(stream)

    def written(
        self,
        number: int,
        conflicts: Collection[BlockKey] = (),
        dead: Mapping[BlockKey, str] | None = None,
    ) -> None:
        """A batch is durable, but the `conflicts`, which stood there already.

        dead   blocks that no store would take, kept as dead letters, with the reason: gaps
        """
        taken = frozenset(conflicts)
        for stream, blocks, version in self._flying.pop(number, ()):
            lost = stream.arrive(number, version, taken, dead or {})
            if stream.dead:
                continue
            self.counts.blocks += len(blocks) - len(lost)
            if lost and not stream.deleted:
                self.counts.conflicts += len(lost)
                stream.withdraw(lost)
                self._ask(stream)
            self._account(stream)
            if stream.small_blocks >= MANY_SMALL:
                stream.small_blocks = 0
                self._compactable[stream.key] = None
        self.counts.dead_letters += len(dead or {})

    def tick(self, now_us: int) -> None:
        """Time passed: seal what is old, or too much; give up on holes of ended streams."""
        until = now_us - self._limits.age_us
        for stream in [stream for stream in self._open if stream.oldest_us <= until]:
            stream.cut_aged(until)
            self._account(stream)
        if self.open_bytes > self._limits.open_bytes:
            for stream in sorted(self._open, key=lambda stream: stream.oldest_us):
                if self.open_bytes <= self._limits.open_bytes // 2:
                    break
                stream.cut_all()
                self._account(stream)
        for stream in list(self._ended):
            if not stream.finished:
                self._finish(stream, now_us)
                self._account(stream)
            if stream.complete or stream.deleted:
                self._retire(stream)

    def flush(self) -> None:
        """Seal everything now."""
        for stream in list(self._open):
            stream.cut_all()
            self._account(stream)

    def forget_idle(self, until_us: int) -> int:
        """Forget streams that nothing came of since `until_us`; they are asked again when met."""
        idle = [
            stream
            for partition in self._partitions.values()
            for stream in partition.streams.values()
            if stream.touched_us <= until_us and stream.resting and not stream.asking
        ]
        for stream in idle:
            self._retire(stream)
        return len(idle)

    # -- inside ---------------------------------------------------------------------------------

    def _accept(self, stream: Stream, chunk: Chunk, position: Any, now_us: int) -> None:
        self.counts.chunks += 1
        self.counts.bytes += len(chunk.data)
        stream.touched_us = now_us
        if stream.deleted:
            self.counts.dropped_bytes += len(chunk.data)
            return
        self.counts.gaps += stream.note(chunk, now_us)
        if stream.end is not None:
            self._ended[stream] = None
        if chunk.data:
            place = position if isinstance(position, int) else None
            self._place(stream, Piece(chunk.offset, chunk.data, chunk.marks, place), now_us)
        self._finish(stream, now_us)
        self._account(stream)

    def _place(self, stream: Stream, piece: Piece, now_us: int) -> None:
        """Take of these bytes what is not there yet, or keep them until it is known."""
        if not stream.known or stream.asking:
            stream.waiting.append(piece)
        else:
            self.counts.repeated_bytes += len(piece.data) - stream.place(piece, now_us)

    def _finish(self, stream: Stream, now_us: int) -> None:
        """Seal what nothing can follow; holes become gaps after a loss, and at a stream's end."""
        if not stream.known or stream.asking or stream.deleted:
            return
        if stream.lost_until:
            self.counts.gaps += stream.give_up_lost()
        if stream.end is None:
            return
        if now_us - stream.ended_us >= self._patience_us:
            self.counts.gaps += stream.give_up_holes()
            stream.finished = True
        stream.cut_ended()

    def _account(self, stream: Stream) -> None:
        """Bring the tables and sums up to date with what a stream holds."""
        growing, held = stream.sizes()
        self.open_bytes += growing - stream.accounted[0]
        self.held_bytes += held - stream.accounted[1]
        stream.accounted = (growing, held)
        self._due[stream.partition] = None
        _put(self._open, stream, growing > 0)
        _put(self._ready, stream, bool(stream.sealed) or stream.has_news)

    def _ask(self, stream: Stream) -> None:
        if not stream.asking:
            stream.asking = True
            self._serial += 1
            self._asks[self._serial] = stream

    def _drop(self, stream: Stream) -> None:
        """Its run was deleted: what still comes of it is not wanted."""
        self.counts.dropped_bytes += stream.sizes()[1]
        stream.delete()
        self._account(stream)

    def _retire(self, stream: Stream) -> None:
        """Everything of a stream is durable: it is asked for again if more should come."""
        stream.partition.streams.pop(stream.key, None)
        if self._ended.pop(stream, self) is None and not stream.deleted:
            self._compactable[stream.key] = None

    def _forget(self, stream: Stream) -> None:
        stream.delete()
        self._account(stream)
        self.held_bytes -= stream.accounted[1]
        stream.dead = True
        for table in (self._asks, self._asking):
            for serial in [serial for serial, asked in table.items() if asked is stream]:
                del table[serial]
        self._ended.pop(stream, None)
        self._compactable.pop(stream.key, None)


def _put(table: dict[Stream, None], stream: Stream, wanted: bool) -> None:
    if wanted:
        table[stream] = None
    else:
        table.pop(stream, None)
