"""The worker's shell: fetches, decodes, taps, asks, writes, commits; decides nothing.

    source -> decode -> taps -> Assembler -> Writer -> commit

One write is on its way while the next chunks are fetched and sealed. A position is committed only
when the store has said that everything before it is durable. What a store refuses for a time is
tried again for ever, louder and slower; what it can never take is tried alone, then without its
words, then kept as a dead letter, and becomes a gap: nothing is given up in silence.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from loghaul.chunk import BLOB, Chunk, Record, StreamKey, decode
from loghaul.errors import ChunkError
from loghaul_ingest.assemble import Ask, Assembler, Write
from loghaul_ingest.assembly import Seal
from loghaul_ingest.beginnings import beginning_at
from loghaul_ingest.block import Block, Extent, Facts
from loghaul_ingest.dead_letters.base import DeadLetters, described
from loghaul_ingest.errors import IngestError, StoreError
from loghaul_ingest.foreign import Foreign, ForeignError, is_foreign
from loghaul_ingest.growing import NOTHING, Beginning, Cut, Limits
from loghaul_ingest.sources.base import Assigned, Fetched, Partition, Revoked, Source
from loghaul_ingest.stores.base import Reader, Writer
from loghaul_ingest.taps import Tap
from loghaul_ingest.writing import Stopped, Writing


class Pace(NamedTuple):
    """How much at a time.

    fetch_bytes    asked of the source at once
    batch_bytes    written to the store at once, and what makes a batch worth writing while more
                   is there to be fetched
    held_bytes     fetched and not durable: above this nothing is fetched
    commit_seconds between commits
    idle_seconds   a stream nothing came of for so long is forgotten, to be asked for again
    """

    fetch_bytes: int = 2 * 2**20
    batch_bytes: int = 4 * 2**20
    held_bytes: int = 24 * 2**20
    commit_seconds: float = 0.2
    idle_seconds: float = 60.0


class Note(Protocol):
    """Where the worker reports to: an event and what there is to say about it."""

    def __call__(self, event: str, **fields: Any) -> None:
        """Report."""


def silent(event: str, **fields: Any) -> None:
    """Report nowhere."""


class Worker:
    """One worker. `step` by hand, or `run` until `stop` is called."""

    def __init__(
        self,
        source: Source,
        writer: Writer,
        seal: Seal,
        dead_letters: DeadLetters,
        *,
        reader: Reader | None = None,
        taps: Sequence[Tap] = (),
        limits: Limits | None = None,
        pace: Pace | None = None,
        note: Note = silent,
        patience_seconds: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`reader` is that of the same store: it gives the beginnings of lines that go on."""
        self.core = Assembler(self._sealed, limits, int(patience_seconds * 1e6))
        self.stopping = False
        #: Whether small blocks are merged by the way, when nothing came; `compact_all` always does.
        self.tidies = True
        self._seal = seal
        self._source, self._writer, self._reader = source, writer, reader
        self._letters, self._taps = dead_letters, taps
        self._pace = pace or Pace()
        self._note, self._clock = note, clock
        self._writing = Writing(writer, dead_letters, note)
        self._foreign = Foreign(self._writing.extents, reader, note) if reader else None
        self._asking: asyncio.Task[None] | None = None
        self._busy: asyncio.Task[None] | None = None
        self._positions: dict[Partition, Any] = {}
        self._committed_at = self._forgot_at = clock()

    # -- by hand

    async def run(self) -> None:
        """Work until `stop`; then finish what is under way, commit, and end."""
        while not self.stopping:
            await self.step()
        await self.finish()

    def stop(self) -> None:
        """End soon: to be called from a signal handler."""
        self.stopping = True
        self._writing.stop()

    async def step(self, timeout_seconds: float = 0.05) -> int:
        """Do once all that can be done; wait when there is nothing. Return bytes fetched."""
        idle = not (self.working or self._sealed_bytes)
        fetched = await self._fetch(timeout_seconds if idle else 0.0)
        self.core.tick(self._now_us())
        self._ask()
        self._write(eager=fetched == 0)
        await self._commit_when_due()
        self._rest(fetched)
        if self.working:
            await asyncio.wait(
                [task for task in (self._asking, self._busy) if task],
                timeout=0 if fetched else timeout_seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )
        else:
            await asyncio.sleep(0)
        self._collect()
        return fetched

    async def drain(self) -> None:
        """Seal and write everything that was fetched, and commit it."""
        while not (self.core.settled or self.stopping):
            self.core.flush()
            await self.step(0.02)
        await self.commit()

    async def finish(self, patience_seconds: float = 10.0) -> None:
        """Let what is under way come to its end, commit, give the partitions back."""
        self._writing.stop()
        tasks = [task for task in (self._asking, self._busy) if task]
        if tasks:
            await asyncio.wait(tasks, timeout=patience_seconds)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.commit()
        await self._source.close()

    async def compact_all(self, seconds: float) -> None:
        """Merge what is worth merging, for so long at most."""
        until = self._clock() + seconds
        self.core.tick(self._now_us())
        while self._clock() < until and (key := self.core.compactable()) is not None:
            await self._compact(key)

    # -- in

    async def _fetch(self, timeout_seconds: float) -> int:
        room = self.core.held_bytes < self._pace.held_bytes
        try:
            events = await self._source.fetch(
                self._pace.fetch_bytes if room else 0, timeout_seconds
            )
        except IngestError as error:
            if error.permanent:
                raise
            self._note("fetch failed, trying again", error=str(error))
            await asyncio.sleep(1.0)
            return 0
        fetched = 0
        try:
            for event in events:
                if isinstance(event, Fetched):
                    fetched += await self._take(event)
                    if not (self._foreign and self._foreign.waiting):
                        # A chunk is milliseconds of work; after it a write that ended is followed
                        # by the next.
                        await asyncio.sleep(0)
                elif isinstance(event, Assigned):
                    self.core.assigned(event.partition)
                elif isinstance(event, Revoked):
                    self._revoked(event.partition)
                else:
                    self.core.lost(event.partition, event.reason)
            for partition in self._foreign.waiting if self._foreign else ():
                await self._take_foreign(partition)
        except Stopped:
            # What was not taken is not committed either: the next worker fetches it again.
            self.stopping = True
        return fetched

    def _revoked(self, partition: Partition) -> None:
        self.core.revoked(partition)
        self._positions.pop(partition, None)
        if self._foreign:
            self._foreign.revoked(partition)

    async def _take(self, event: Fetched) -> int:
        if self._foreign and is_foreign(event.record):
            try:
                return self._foreign.take(event)
            except ForeignError as error:
                chunk: Chunk | str = str(error)
        else:
            chunk = self._decode(event.record)
        # In the order of their positions: what waits came before this one.
        if self._foreign and event.partition in self._foreign.waiting:
            await self._take_foreign(event.partition)
        if isinstance(chunk, str):
            await self._bury(chunk, event)
            self.core.fetched(event.partition, event.position, None, self._now_us())
            return 1
        self._place(event.partition, event.position, chunk)
        return len(chunk.data) + 1

    async def _take_foreign(self, partition: Partition) -> None:
        """Place what others wrote: many records at once, each stream's as one chunk."""
        assert self._foreign is not None
        for position, chunk in await self._foreign.chunks(partition):
            if chunk is None:
                self.core.fetched(partition, position, None, self._now_us())
            else:
                self._place(partition, position, chunk)

    def _place(self, partition: Partition, position: Any, chunk: Chunk) -> None:
        for tap in self._taps:
            self._tap(tap, chunk)
        self.core.fetched(partition, position, chunk, self._now_us())

    def _sealed(self, facts: Facts, cut: Cut, position: int | None) -> Block:
        """Seal a block; one of others' records notes where to go on with them."""
        if self._foreign:
            position = self._foreign.note_of(facts.stream, cut.offset + len(cut.data), position)
        return self._seal(facts, cut, position)

    def _decode(self, record: Record | Chunk) -> Chunk | str:
        """Return the chunk, or why there is none."""
        if isinstance(record, Chunk):
            return record
        try:
            return decode(record.value, record.headers)
        except ChunkError as error:
            return str(error)

    def _tap(self, tap: Tap, chunk: Chunk) -> None:
        try:
            tap(chunk)
        except Exception as error:  # noqa: BLE001 - who listens must not stop the pipeline
            self._note("a tap failed", error=f"{type(error).__name__}: {error}")

    async def _bury(self, reason: str, event: Fetched) -> None:
        about: dict[str, Any] = {"partition": event.partition.name, "position": event.position}
        data = b""
        if isinstance(event.record, Record):
            data = event.record.value
            about |= described(event.record, event.time_us)
        await self._writing.bury(reason, about, data)
        self.core.counts.dead_letters += 1

    # -- questions

    def _ask(self) -> None:
        if self._asking is None and (asks := self.core.asks()):
            self._asking = asyncio.create_task(self._answer(asks))

    async def _answer(self, asks: Sequence[Ask]) -> None:
        extents = await self._writing.extents({ask.stream: ask.started for ask in asks})
        for ask in asks:
            extent = extents[ask.stream]
            at, head = ask.start, NOTHING
            if extent is not None:
                at = first_missing(extent, ask.start)
                head = await self._head(ask, at)
            self.core.learned(ask, extent, at, head, self._now_us())

    async def _head(self, ask: Ask, at: int) -> Beginning:
        """Return the beginning of the event that goes on at an offset."""
        if self._reader is None or ask.kind == BLOB or at == 0:
            return NOTHING
        try:
            return await asyncio.to_thread(beginning_at, self._reader, ask.stream, ask.kind, at)
        except StoreError as error:
            self._note("the beginning of a line cannot be read", error=str(error))
            return NOTHING

    # -- out

    def _write(self, eager: bool) -> None:
        if self._busy is None and (eager or self._sealed_bytes >= self._pace.batch_bytes):
            write = self.core.take(self._pace.batch_bytes)
            if write is not None:
                self._busy = asyncio.create_task(self._insist(write))

    async def _insist(self, write: Write | None) -> None:
        """Write a batch, and full ones that are waiting behind it: the store need not wait."""
        while write is not None:
            conflicts, dead = await self._writing.write(write.batch)
            self.core.written(write.number, conflicts, dead)
            more = self._sealed_bytes >= self._pace.batch_bytes and not self.stopping
            write = self.core.take(self._pace.batch_bytes) if more else None

    @property
    def _sealed_bytes(self) -> int:
        """Bytes that are not stored and not in an open block: those on their way too."""
        return self.core.held_bytes - self.core.open_bytes

    async def commit(self) -> None:
        """Commit what is durable."""
        durable = self.core.commits()
        self._positions.update(durable)  # type: ignore[arg-type]
        for token, position in durable.items() if self._foreign else ():
            self._foreign.committed(token, position)  # type: ignore[union-attr, arg-type]
        self._committed_at = self._clock()
        if not self._positions:
            return
        try:
            await self._source.commit(self._positions)
            self._positions = {}
        except IngestError as error:
            # Not lost: they are kept, and given with the next ones.
            self._note("commit failed, trying again", error=str(error))

    async def _commit_when_due(self) -> None:
        if self._clock() - self._committed_at >= self._pace.commit_seconds:
            await self.commit()

    def _rest(self, fetched: int) -> None:
        """What there is time for when nothing came."""
        if fetched or self._busy or self.core.held_bytes:
            return
        if self.tidies and (key := self.core.compactable()) is not None:
            self._busy = asyncio.create_task(self._compact(key))
        elif self._clock() - self._forgot_at > self._pace.idle_seconds:
            self._forgot_at = self._clock()
            self.core.forget_idle(self._now_us() - int(self._pace.idle_seconds * 1e6))

    async def _compact(self, key: StreamKey) -> None:
        try:
            await self._writer.compact(key)
        except StoreError as error:
            self._note("compaction failed, the stream stays as it is", error=str(error))

    # -- inside

    @property
    def failing(self) -> str | None:
        """What the store fails at just now; None when nothing is being tried again."""
        return self._writing.failing

    @property
    def retries(self) -> int:
        """How often something was tried again."""
        return self._writing.retries

    @property
    def working(self) -> bool:
        """Whether a question or a write is under way."""
        return self._asking is not None or self._busy is not None

    def _collect(self) -> None:
        """Take note of tasks that ended; an error that is nobody's ends the worker."""
        asking, busy = self._asking, self._busy
        if asking is not None and asking.done():
            self._asking = None
            _result(asking)
        if busy is not None and busy.done():
            self._busy = None
            _result(busy)

    def _now_us(self) -> int:
        return int(self._clock() * 1e6)


def _result(task: asyncio.Task[None]) -> None:
    try:
        task.result()
    except Stopped:
        # Not done, and nothing of it was committed: the next worker does it.
        pass


def first_missing(extent: Extent, start: int) -> int:
    """Return the first offset from `start` on that is not stored."""
    for offset, length in extent.holes:
        if start < offset + length:
            return max(start, offset)
    return max(start, extent.end)
