"""Watching a worker: what is counted anyway is read, what is measured is measured per batch.

The worker's core keeps its counts, and its shell reports through `note`; both are read when
somebody scrapes. What there is beside them comes from a `Watch` around source, writer and note: a
few calls per round and per batch, none per line.

    with watching("127.0.0.1:9464", Backlog(settings.spool)) as watch:
        worker = stack(source, writer, ..., watch=watch)
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from loghaul.chunk import Chunk, StreamKey
from loghaul_ingest.backlog import Backlog
from loghaul_ingest.block import BlockKey, Extent
from loghaul_ingest.endpoint import Answers, Endpoint
from loghaul_ingest.errors import IngestError
from loghaul_ingest.exposition import Registry, cause
from loghaul_ingest.metrics import Sample, of_backlog, of_retention, of_vitals
from loghaul_ingest.retention import Retention
from loghaul_ingest.shell import Note, Worker
from loghaul_ingest.sources.base import Assigned, Event, Partition, Revoked, Source
from loghaul_ingest.stores.base import Batch, Writer
from loghaul_ingest.vitals import PATIENCE_SECONDS, Vitals

#: Bounds of the histogram of writes, seconds.
BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
#: Between beats of the pulse, and between looks at how far the source is behind.
PULSE_SECONDS, LAG_SECONDS = 1.0, 1.0

#: What the core counts: attribute of `assemble.Counts` -> metric.
COUNTS = {
    "chunks": "loghaul_worker_chunks",
    "bytes": "loghaul_worker_fetched_bytes",
    "repeated_bytes": "loghaul_worker_repeated_bytes",
    "dropped_bytes": "loghaul_worker_deleted_bytes",
    "blocks": "loghaul_worker_blocks",
    "conflicts": "loghaul_worker_conflicts",
    "holes": "loghaul_worker_holes",
    "gaps": "loghaul_worker_gaps",
    "dead_letters": "loghaul_worker_dead_letters",
}


@contextmanager
def watching(listen: str | None, backlog: Backlog | None = None) -> Iterator[Watch | None]:
    """Serve /metrics, /healthz and /readyz at an address while inside; None: watch nothing.

    Raises UsageError for no address or without prometheus-client, IngestError when the address
    cannot be had.
    """
    if listen is None:
        yield None
        return
    watch = Watch(backlog)
    with Endpoint(listen, watch.answers()):
        yield watch


class Watch:
    """Watches one worker. Everything but what scrapes is called on the worker's thread."""

    def __init__(
        self,
        backlog: Backlog | None = None,
        *,
        patience_seconds: float = PATIENCE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`backlog`: of the spool, where this worker reads one.

        Raises UsageError where prometheus-client is not installed.
        """
        self.vitals = Vitals(patience_seconds, clock)
        self.notes: Counter[str] = Counter()
        self.retries: Counter[tuple[str, str]] = Counter()
        self.lost: Counter[str] = Counter()
        self.events = self.stored_bytes = 0
        self.partitions: set[Partition] = set()
        self.lag: Mapping[str, int] = {}
        #: What removes runs now and then, where somebody does.
        self.retention: Retention | None = None
        self.clock = clock
        self._now, self._patience, self._backlog = now, patience_seconds, backlog
        self._worker: Worker | None = None
        self._came_us: int | None = None
        self._registry = Registry(self._samples)
        self.writes = self._registry.histogram("loghaul_worker_write_seconds", BOUNDS)

    # -- around the worker's parts

    def source(self, source: Source) -> Source:
        """Return a source that is watched."""
        return _WatchedSource(source, self)

    def writer(self, writer: Writer) -> Writer:
        """Return a writer that is watched."""
        return _WatchedWriter(writer, self)

    def note(self, note: Note) -> Note:
        """Return a note that counts what is reported and passes it on."""

        def counted(event: str, **fields: Any) -> None:
            self.notes[event] += 1
            note(event, **fields)

        return counted

    def tap(self, chunk: Chunk) -> None:
        """See what comes: how old it is, and what never will."""
        if chunk.marks:
            self._came_us = chunk.marks[-1].time_us
        for gap in chunk.gaps:
            self.lost[cause(gap.reason)] += gap.length

    def attach(self, worker: Worker) -> None:
        """Watch this worker's counts."""
        self._worker = worker

    def beat(self) -> None:
        """A round of the worker is over."""
        if self._worker is not None:
            core = self._worker.core
            done = core.counts.chunks + core.counts.blocks + core.counts.dead_letters
            self.vitals.beat(done, core.held_bytes > 0 or any(self.lag.values()))

    def failed(self, what: str, error: IngestError) -> None:
        """Something failed and is tried again."""
        self.vitals.failed(what, str(error))
        self.retries[what, cause(error)] += 1

    # -- who asks

    def answers(self) -> Answers:
        """Return what an endpoint serves."""
        return Answers(self._registry.exposition, self.vitals.alive, self.ready)

    def ready(self) -> str:
        """Return why nothing is being moved; "" when it is, or there is nothing to move."""
        if reason := self.vitals.ready():
            return reason
        oldest = self._backlog.look().oldest_seconds if self._backlog else 0.0
        if min(oldest, self.vitals.still_seconds()) > self._patience:
            return f"the oldest byte in the spool has waited for {oldest:.0f} s, and nothing moves"
        return ""

    def behind_seconds(self) -> float:
        """How long the oldest byte has waited, where that can be told; else how old the last ones
        were when they came, while more wait. 0 when nothing waits.
        """
        if self._backlog:
            return self._backlog.look().oldest_seconds
        if self._came_us is None or not self.vitals.waiting:
            return 0.0
        return max(0.0, self._now() - self._came_us / 1e6)

    def _samples(self) -> Iterator[Sample]:
        yield from of_vitals(self.vitals.alive(), self.ready())
        if self._backlog:
            yield from of_backlog(self._backlog)
        if self._worker is not None:
            core = self._worker.core
            for attribute, name in COUNTS.items():
                yield name, getattr(core.counts, attribute)
            yield "loghaul_worker_open_blocks", core.open_blocks
            yield "loghaul_worker_held_bytes", core.held_bytes
        yield "loghaul_worker_events", self.events
        yield "loghaul_worker_stored_bytes", self.stored_bytes
        yield "loghaul_worker_retries", self.retries
        yield "loghaul_worker_notes", self.notes
        yield "loghaul_worker_partitions", len(self.partitions)
        yield "loghaul_lost_bytes", self.lost
        yield "loghaul_lag_records", self.lag
        yield "loghaul_lag_seconds", self.behind_seconds()
        yield from of_retention(self.retention)


class _WatchedSource:
    """Passes everything on; a fetch is a round of the worker."""

    def __init__(self, source: Source, watch: Watch) -> None:
        self._source, self._watch = source, watch
        self._pulse: asyncio.Task[None] | None = None
        self._looked_at = float("-inf")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    async def fetch(self, max_bytes: int, timeout_seconds: float) -> Sequence[Event]:
        if self._pulse is None:
            self._pulse = asyncio.create_task(self._beat())
        watch = self._watch
        self._look()
        watch.beat()
        try:
            events = await self._source.fetch(max_bytes, timeout_seconds)
        except IngestError as error:
            watch.failed("fetch", error)
            raise
        watch.vitals.worked("fetch")
        for event in events:
            if isinstance(event, Assigned):
                watch.partitions.add(event.partition)
            elif isinstance(event, Revoked):
                watch.partitions.discard(event.partition)
        return events

    async def commit(self, positions: Mapping[Partition, Any]) -> None:
        try:
            await self._source.commit(positions)
        except IngestError as error:
            self._watch.failed("commit", error)
            raise
        self._watch.vitals.worked("commit")

    async def close(self) -> None:
        if self._pulse is not None:
            self._pulse.cancel()
        await self._source.close()

    def _look(self) -> None:
        """Ask the source, where it can tell, whether it is one of its group, and what waits."""
        watch, now = self._watch, self._watch.clock()
        if now - self._looked_at < LAG_SECONDS:
            return
        self._looked_at = now
        watch.vitals.assigned = getattr(self._source, "joined", True)
        lag: Callable[[], Mapping[str, int]] | None = getattr(self._source, "lag", None)
        if lag is not None:
            watch.lag = dict(lag())

    async def _beat(self) -> None:
        while True:
            self._watch.vitals.pulse()
            await asyncio.sleep(PULSE_SECONDS)


class _WatchedWriter:
    """Passes everything on; measures what is written."""

    def __init__(self, writer: Writer, watch: Watch) -> None:
        self._writer, self._watch = writer, watch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)

    async def extents(self, streams: Mapping[StreamKey, int]) -> Mapping[StreamKey, Extent | None]:
        try:
            found = await self._writer.extents(streams)
        except IngestError as error:
            self._failed("extents", error)
            raise
        self._watch.vitals.worked("extents")
        return found

    async def write(self, batch: Batch) -> Sequence[BlockKey]:
        watch = self._watch
        begun = watch.clock()
        try:
            conflicts = await self._writer.write(batch)
        except IngestError as error:
            watch.writes.labels("failed").observe(watch.clock() - begun)
            self._failed("write", error)
            raise
        watch.writes.labels("stored").observe(watch.clock() - begun)
        watch.vitals.worked("write")
        taken = frozenset(conflicts)
        for block in batch.blocks:
            if block.head.key not in taken:
                watch.events += block.head.lines
                watch.stored_bytes += block.head.length
        return conflicts

    async def compact(self, stream: StreamKey) -> int:
        return await self._writer.compact(stream)

    async def delete_run(self, run: str) -> bool:
        return await self._writer.delete_run(run)

    async def close(self) -> None:
        await self._writer.close()

    def _failed(self, what: str, error: IngestError) -> None:
        # What is refused for good is not tried again: the shell looks for the block that it is.
        if not error.permanent:
            self._watch.failed(what, error)
