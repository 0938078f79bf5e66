"""A store in memory: the whole behaviour of a store and nothing else.

For tests, yours included, and for a look at what a store must do:

    store = MemoryStore()
    await store.writer().write(Batch(blocks, facts))
    store.reader().streams("my-run")

Safe for any number of threads, writers and readers. `open_writer("memory:name")` and
`open_reader("memory:name")` of one process meet in the store of that name.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from loghaul.chunk import StreamKey
from loghaul_ingest import runs
from loghaul_ingest.block import Block, BlockKey, Extent, Facts, Head
from loghaul_ingest.errors import StoreError
from loghaul_ingest.query.proposal import Proposal, holds
from loghaul_ingest.stores import compaction, totals
from loghaul_ingest.stores.base import Batch, RunRow, Stored, StreamRow, Tally
from loghaul_ingest.stores.starts import Starts, now_us
from loghaul_ingest.stores.tally import tally_of


@dataclass
class _Stream:
    facts: Facts
    blocks: dict[int, Block] = field(default_factory=dict)

    def sorted(self) -> list[Block]:
        return [self.blocks[offset] for offset in sorted(self.blocks)]

    def below(self, offset: int) -> Iterator[Stored]:
        for start in sorted(self.blocks, reverse=True):
            if start < offset:
                yield _stored(self.blocks[start])

    def pieces(self) -> list[totals.Span]:
        return totals.covered((block.head.offset, block.head.length) for block in self.sorted())


class MemoryStore:
    """Blocks in dictionaries behind one lock. Forgets everything with the process."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.runs: dict[str, dict[StreamKey, _Stream]] = {}
        #: When runs were deleted, microseconds.
        self.tombstones: dict[str, int] = {}

    def writer(self) -> MemoryWriter:
        """Return a writer; several may write at once."""
        return MemoryWriter(self)

    def reader(self) -> MemoryReader:
        """Return a reader."""
        return MemoryReader(self)

    def stream(self, key: StreamKey) -> _Stream | None:
        """Return the stream, None when there is none."""
        return self.runs.get(key.run, {}).get(key)


class MemoryWriter:
    """See `base.Writer`."""

    def __init__(self, store: MemoryStore) -> None:
        self._opened = store
        self._starts = Starts()
        self._closed = False

    @property
    def _store(self) -> MemoryStore:
        if self._closed:
            raise StoreError("this writer was closed")
        return self._opened

    async def extents(self, streams: Mapping[StreamKey, int]) -> Mapping[StreamKey, Extent | None]:
        """See `base.Writer`."""
        self._starts.learn(streams)
        with self._store.lock:
            return {key: self._extent(key) for key in streams}

    async def write(self, batch: Batch) -> Sequence[BlockKey]:
        """See `base.Writer`."""
        self._starts.learn({facts.stream: facts.started for facts in batch.facts})
        with self._store.lock:
            for facts in batch.facts:
                self._take_facts(facts)
            repeats = [block.head.key for block in batch.blocks if not self._create(block)]
            for facts in batch.facts:
                self._finish(facts.stream)
            return repeats

    async def compact(self, stream: StreamKey) -> int:
        """See `base.Writer`."""
        with self._store.lock:
            found = self._store.stream(stream)
            if found is None:
                return 0
            before = len(found.blocks)
            heads = [block.head for block in found.sorted()]
            for group in compaction.plan(heads):
                merged = compaction.merge(
                    group, found.facts, lambda head: _stored(found.blocks[head.offset]), found.below
                )
                for head in group.heads:
                    del found.blocks[head.offset]
                found.blocks.update((block.head.offset, block) for block in merged)
            return before - len(found.blocks)

    async def delete_run(self, run: str) -> bool:
        """See `base.Writer`."""
        with self._store.lock:
            if self._store.runs.pop(run, None) is None:
                return False
            self._store.tombstones[run] = now_us()
            return True

    async def close(self) -> None:
        """See `base.Writer`; the store stays."""
        self._closed = True

    def _extent(self, key: StreamKey) -> Extent | None:
        if self._deleted(key):
            return None
        found = self._store.stream(key)
        return totals.extent(found.pieces()) if found else Extent()

    def _deleted(self, key: StreamKey) -> bool:
        return self._starts.buried(key, self._store.tombstones.get(key.run))

    def _take_facts(self, facts: Facts) -> None:
        if self._deleted(facts.stream):
            return
        streams = self._store.runs.setdefault(facts.stream.run, {})
        if facts.stream in streams:
            streams[facts.stream].facts = totals.joined(streams[facts.stream].facts, facts)
        else:
            streams[facts.stream] = _Stream(facts)

    def _finish(self, key: StreamKey) -> None:
        """Count the last line of an ended stream, where it was sealed as an unfinished one."""
        found = self._store.stream(key)
        if found is None or not found.blocks:
            return
        head = found.blocks[max(found.blocks)].head
        block = compaction.finished(
            head, found.facts, lambda head: _stored(found.blocks[head.offset]), found.below
        )
        if block is not None:
            found.blocks[head.offset] = block

    def _create(self, block: Block) -> bool:
        head = block.head
        if self._deleted(head.stream):
            return False
        found = self._store.stream(head.stream)
        if found is None:
            found = _Stream(self._starts.set_right(totals.facts_of(head)))
            self._store.runs.setdefault(head.stream.run, {})[head.stream] = found
        if head.offset in found.blocks:
            return False
        found.blocks[head.offset] = block
        return True


class MemoryReader:
    """See `base.Reader`."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    def runs(self) -> Sequence[RunRow]:
        """See `base.Reader`."""
        with self._store.lock:
            rows = [runs.summarise(self.streams(run)) for run in self._store.runs]
        return sorted(rows, key=lambda row: (-row.started, row.run))

    def streams(self, run: str) -> Sequence[StreamRow]:
        """See `base.Reader`."""
        with self._store.lock:
            rows = [_row(found) for found in self._store.runs.get(run, {}).values()]
        return sorted(rows, key=totals.by_start)

    def facts(self, runs: Iterable[str]) -> Mapping[str, Sequence[Facts]]:
        """See `base.Reader`."""
        with self._store.lock:
            known = {run: self._store.runs[run] for run in runs if run in self._store.runs}
            return {
                run: sorted((one.facts for one in found.values()), key=totals.facts_by_start)
                for run, found in known.items()
            }

    def heads(self, stream: StreamKey, start: int = 0, end: int | None = None) -> Iterator[Head]:
        """See `base.Reader`."""
        with self._store.lock:
            found = self._store.stream(stream)
            heads = [block.head for block in found.sorted()] if found else []
        for head in heads:
            if head.end > start and (end is None or head.offset < end):
                yield head

    def load(self, keys: Sequence[BlockKey]) -> Iterator[Stored]:
        """See `base.Reader`."""
        for key in keys:
            with self._store.lock:
                found = self._store.stream(key.stream)
                block = found.blocks.get(key.offset) if found else None
            if block is not None:
                yield _stored(block)

    def candidates(
        self,
        proposal: Proposal,
        runs: Iterable[str] | None = None,
        before: int | None = None,
    ) -> Iterator[Head]:
        """See `base.Reader`."""
        with self._store.lock:
            blocks = [
                (block, found.facts)
                for found in self._chosen(runs)
                for block in found.blocks.values()
                if before is None or block.head.time_min < before
            ]
        blocks.sort(key=lambda pair: totals.newest_first(pair[0].head))
        for block, facts in blocks:
            if holds(proposal, block, facts):
                yield block.head

    def tally(
        self, runs: Iterable[str] | None, since: int | None, until: int | None, bucket_us: int
    ) -> Mapping[StreamKey, Tally]:
        """See `base.Reader`."""
        with self._store.lock:
            heads = [block.head for found in self._chosen(runs) for block in found.blocks.values()]
        return tally_of(heads, since, until, bucket_us)

    def sizes(self) -> Mapping[str, int]:
        """See `base.Reader`; of a disk that is memory."""
        with self._store.lock:
            return {
                run: sum(len(one.data) for found in streams.values() for one in found.sorted())
                for run, streams in self._store.runs.items()
            }

    def close(self) -> None:
        """See `base.Reader`; the store stays."""

    def _chosen(self, runs: Iterable[str] | None) -> list[_Stream]:
        chosen = list(self._store.runs) if runs is None else list(dict.fromkeys(runs))
        return [found for run in chosen for found in self._store.runs.get(run, {}).values()]


def _stored(block: Block) -> Stored:
    return Stored(block.head, block.data, block.marks)


def _row(found: _Stream) -> StreamRow:
    heads = [block.head for block in found.sorted()]
    levels: dict[str, int] = {}
    for head in heads:
        for level, count in head.levels.items():
            levels[level] = levels.get(level, 0) + count
    return totals.row(
        found.facts,
        found.pieces(),
        lines=sum(head.lines for head in heads),
        progress=sum(head.progress for head in heads),
        levels=levels,
        time_min=min((head.time_min for head in heads), default=None),
        time_max=max((head.time_max for head in heads), default=None),
    )


_named: dict[str, MemoryStore] = {}
_named_lock = threading.Lock()


def named(name: str) -> MemoryStore:
    """Return the store of that name of this process."""
    with _named_lock:
        return _named.setdefault(name, MemoryStore())


def open_writer(rest: str) -> MemoryWriter:
    """Open "memory:name"."""
    return named(rest).writer()


def open_reader(rest: str) -> MemoryReader:
    """Open "memory:name"."""
    return named(rest).reader()
