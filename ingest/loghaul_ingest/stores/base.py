"""The seam between the pipeline and what keeps its blocks: `Writer`, `Reader`.

A store only has to propose: `candidates` returns every block in which a query could match, and
may return too many. The predicate (`loghaul_ingest.query`) reads the block and decides. So no two
stores can differ in what a query means. Every store passes `tests/contract/test_store.py`.

Writer is asynchronous because a worker fetches while it writes; Reader is not, and may be used by
several threads and, for stores on disk, by several processes while a writer writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from loghaul.chunk import Mark, StreamKey
from loghaul_ingest.block import Block, BlockKey, Extent, Facts, Head
from loghaul_ingest.query.proposal import Proposal


class Batch(NamedTuple):
    """What is written at once.

    blocks     in ascending offset per stream
    facts      of every stream that is new in this batch, or whose end or gaps became known;
               they replace what was stored of the stream (an end is never taken back, gaps are
               joined)
    """

    blocks: Sequence[Block]
    facts: Sequence[Facts] = ()


class Writer(Protocol):
    """The writing half, used by one worker. Errors are StoreError; `permanent` tells which."""

    async def extents(self, streams: Mapping[StreamKey, int]) -> Mapping[StreamKey, Extent | None]:
        """Return what is stored of each stream: `Extent()` of an unknown one, None where its run
        was deleted after its writer had started (what still comes of it is to be dropped). Sees
        every write that returned, of any worker.

        streams   when the writer of each started, microseconds. The writer remembers it: blocks
                  do not say it
        """
        ...

    async def write(self, batch: Batch) -> Sequence[BlockKey]:
        """Create the blocks; return only when they are durable.

        Returns the keys that stood there already: those blocks were not written, the others were.
        Keys of a deleted run are returned too, but for streams that are known, from `extents` or
        the batch's facts, to have started after it was deleted: `extents` tells which they are.
        Where the end of a stream is the
        end of a block that was sealed with an unfinished line, that line is an event from now on:
        the block's counts are set right (`compaction.finished`). Idempotent. Raises without having
        promised anything: the same batch may be written again.
        """
        ...

    async def compact(self, stream: StreamKey) -> int:
        """Merge small neighbouring blocks of a stream into large ones; return how many vanished.

        Changes no byte, no event and no count that a reader can see, at no moment. Repairs
        overlaps that it meets. Empty case: 0.
        """
        ...

    async def delete_run(self, run: str) -> bool:
        """Remove a run at once and leave a tombstone with the time; False if there was none.

        The tombstone holds against writers that started until then. With one that started later
        the run lives again, holding what the later ones say. The clocks of two machines are
        compared here: where they differ, a run begun again sooner after its deletion than by the
        difference may be taken for the deleted one, or some of the old one for the new.
        """
        ...

    async def close(self) -> None:
        """Release everything. Idempotent."""
        ...


class Stored(NamedTuple):
    """The bytes of a block as a reader gets them."""

    head: Head
    data: bytes
    marks: tuple[Mark, ...]


class StreamRow(NamedTuple):
    """A stream and its totals.

    stored       bytes stored, overlaps not counted twice: complete when it equals end.length
    holes        ascending (offset, length) not stored below the end; gaps of facts are among them
    """

    facts: Facts
    stored: int
    lines: int
    progress: int
    levels: Mapping[str, int]
    time_min: int | None
    time_max: int | None
    holes: tuple[tuple[int, int], ...]

    @property
    def reach(self) -> int:
        """Where what is known of it ends: stored, a gap, or its end."""
        return self.stored + sum(length for _, length in self.holes)

    @property
    def whole_until(self) -> int:
        """Offset of the first byte that may still come: neither stored nor a gap."""
        for offset, length in self.holes:
            at = offset
            for gap in self.facts.gaps:
                if gap.offset <= at < gap.offset + gap.length:
                    at = gap.offset + gap.length
            if at < offset + length:
                return at
        return self.reach


class RunRow(NamedTuple):
    """A run in the list of runs; computed from its streams by `loghaul_ingest.runs.summarise`.

    status   "running", "completed", "failed", "canceled", "lost"; "damaged": cannot be read
    started, ended   microseconds since the epoch
    """

    run: str
    experiment: str
    name: str
    tags: Mapping[str, str]
    status: str
    started: int
    ended: int | None
    nodes: int
    attempts: int
    lines: int
    errors: int


class Tally(NamedTuple):
    """Counts from counters, without reading a block.

    counts      (bucket start in microseconds, level or "") -> events
    straddling  heads of blocks that lie in more than one bucket or over an edge of the range, and
                are in no count: read them
    overlapping blocks hold the same bytes, so that the counts are too high: read them all
    """

    counts: Mapping[tuple[int, str], int]
    straddling: Sequence[Head]
    overlapping: bool = False


class Reader(Protocol):
    """The reading half. Never changes anything."""

    def runs(self) -> Sequence[RunRow]:
        """All runs, newest start first; one that cannot be read has the status "damaged" and, for
        want of better, its file's name as id. Empty case: ()."""
        ...

    def streams(self, run: str) -> Sequence[StreamRow]:
        """The streams of a run, by start of the writer, writer and name. Unknown run: ()."""
        ...

    def facts(self, runs: Iterable[str]) -> Mapping[str, Sequence[Facts]]:
        """The facts of the streams of several runs, each in the order of `streams`.

        As `streams` tells them, but asked for at once and without totals; so gaps are as they were
        declared, though late bytes may have filled some. Unknown runs are left out; of a damaged
        one StoreDamaged is raised.
        """
        ...

    def heads(self, stream: StreamKey, start: int = 0, end: int | None = None) -> Iterator[Head]:
        """Blocks of a stream that hold a byte of [start, end), by offset. Unknown stream: none.

        Overlapping blocks are all given: a caller skips what it has had.
        """
        ...

    def load(self, keys: Sequence[BlockKey]) -> Iterator[Stored]:
        """The bytes of blocks, in the order of `keys`; one that vanished meanwhile (compacted,
        deleted) is left out: the caller asks `heads` again.
        """
        ...

    def candidates(
        self,
        proposal: Proposal,
        runs: Iterable[str] | None = None,
        before: int | None = None,
    ) -> Iterator[Head]:
        """Every block in which `proposal` could hold, by greatest time, newest first.

        A block with the field `block.UNINDEXED` could hold any word and any value.
        runs     only these; None: all
        before   only blocks whose least time is below (microseconds)
        Blocks merged while the caller is away are given again under their new heads where some
        of theirs was not given yet. What is damaged raises StoreDamaged when all else was given.
        Lazy: taking the first few must not cost what taking all does. No transaction stays open
        while the caller is away.
        """
        ...

    def tally(
        self, runs: Iterable[str] | None, since: int | None, until: int | None, bucket_us: int
    ) -> Mapping[StreamKey, Tally]:
        """Counts per stream over [since, until) in buckets from the epoch, text and events only.

        Damaged runs are left out unless asked for by name; then StoreDamaged.
        """
        ...

    def sizes(self) -> Mapping[str, int]:
        """About how many bytes each run of `runs` holds on disk; together, what the store does.

        What was deleted is not counted, from the moment of its deletion, even where the disk gets
        its bytes back later. Empty case: {}.
        """
        ...

    def close(self) -> None:
        """Release everything. Idempotent."""
        ...
