"""The writing half: all databases are written by one thread, so that the event loop goes on.

SQLite and zstd release the interpreter while they work: the worker builds its next batch
meanwhile. A thread that writes a run holds the run's lock for one batch, a few milliseconds.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from loghaul.chunk import StreamKey
from loghaul_ingest.block import Block, BlockKey, Extent, Facts
from loghaul_ingest.errors import StoreError
from loghaul_ingest.runs import summarise
from loghaul_ingest.stores import totals
from loghaul_ingest.stores.base import Batch
from loghaul_ingest.stores.sqlite import compacting, polishing, storing, training
from loghaul_ingest.stores.sqlite.blocks import StreamBlocks
from loghaul_ingest.stores.sqlite.catalog import Catalog, Resting
from loghaul_ingest.stores.sqlite.codec import Codec
from loghaul_ingest.stores.sqlite.database import open_for_writing, translated
from loghaul_ingest.stores.sqlite.layout import Layout, stamp
from loghaul_ingest.stores.sqlite.rows import find_stream, pieces, stream_rows
from loghaul_ingest.stores.starts import Starts, now_us

#: So many databases stay open; each costs a few file descriptors and a cache.
MOST_OPEN = 64

_T = TypeVar("_T")


@dataclass
class _Database:
    """An open database with the codec of its run, which knows so many dictionaries."""

    connection: sqlite3.Connection
    codec: Codec
    known: int
    inode: int

    def stands(self, path: Path) -> bool:
        """Return whether it still is what lies at its path."""
        try:
            return os.stat(path).st_ino == self.inode
        except FileNotFoundError:
            return False


class _DeletedMeanwhile(Exception):
    """The run was deleted after it was looked at: look again."""


class SqliteWriter:
    """See `base.Writer`. One event loop uses it; several processes may write one store."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._catalog = Catalog(layout)
        self._open: OrderedDict[str, _Database] = OrderedDict()
        self._starts = Starts()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="loghaul-store")
        self._process = os.getpid()
        self._closed = False
        with translated(layout.folder):
            layout.runs.mkdir(parents=True, exist_ok=True)

    async def extents(self, streams: Mapping[StreamKey, int]) -> Mapping[StreamKey, Extent | None]:
        """See `base.Writer`."""
        self._starts.learn(streams)
        return await self._do(lambda: {key: self._extent(key) for key in streams})

    async def write(self, batch: Batch) -> Sequence[BlockKey]:
        """See `base.Writer`. Runs are committed one by one: an error of one leaves the others
        written, and the same batch may come again.
        """
        self._starts.learn({facts.stream: facts.started for facts in batch.facts})
        return await self._do(lambda: self._write(batch))

    async def compact(self, stream: StreamKey) -> int:
        """See `base.Writer`. Works in steps, so that batches are written in between.

        Of a run that has ended all streams are merged, so that its index is built anew but once.
        """
        vanished = await self._merge([stream])
        vanished += await self._merge(await self._do(partial(self._fragmented, stream.run)))
        task = await self._do(partial(self._polish, stream.run, None))
        while task is not None:
            task = await self._do(partial(self._polish, stream.run, task))
        return vanished

    async def _merge(self, streams: Sequence[StreamKey]) -> int:
        vanished, at = 0, compacting.START
        while streams:
            streams, at, gone = await self._do(partial(self._compact, streams, at))
            vanished += gone
        return vanished

    async def delete_run(self, run: str) -> bool:
        """See `base.Writer`."""
        return await self._do(lambda: self._delete(run))

    async def close(self) -> None:
        """See `base.Writer`."""
        if self._closed:
            return
        await self._do(self._close_all)
        self._closed = True
        self._thread.shutdown()

    async def _do(self, work: Callable[[], _T]) -> _T:
        if self._closed:
            raise StoreError("this writer was closed")
        if os.getpid() != self._process:
            raise StoreError("a writer does not survive a fork: open one in the child")
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    # Below: in the thread.

    def _extent(self, key: StreamKey) -> Extent | None:
        if self._starts.buried(key, self._layout.deleted(key.run)):
            return None
        if self._layout.removing(key.run) or not self._layout.database(key.run).exists():
            return Extent()
        with self._database(key.run) as database:
            connection = database.connection
            found = find_stream(connection, key)
            if found is None:
                return Extent()
            row = connection.execute(
                "SELECT stored_end, ragged FROM streams WHERE id = ?", (found[0],)
            ).fetchone()
            return totals.extent(pieces(connection, found[0], *row))

    def _write(self, batch: Batch) -> list[BlockKey]:
        shares: dict[str, tuple[list[Block], list[Facts]]] = {}
        for block in batch.blocks:
            shares.setdefault(block.head.stream.run, ([], []))[0].append(block)
        for facts in batch.facts:
            shares.setdefault(facts.stream.run, ([], []))[1].append(facts)
        repeats: list[BlockKey] = []
        failed: StoreError | None = None
        for run, (blocks, facts_of_run) in shares.items():
            try:
                repeats += self._write_run(run, blocks, facts_of_run)
            except StoreError as error:
                failed = failed or error
        if failed is not None:
            raise failed
        return repeats

    def _write_run(
        self, run: str, blocks: Sequence[Block], facts: Sequence[Facts]
    ) -> list[BlockKey]:
        """Write what was not deleted; anew where the run is deleted meanwhile."""
        while True:
            deleted = self._layout.deleted(run)
            wanted = [one for one in blocks if not self._starts.buried(one.head.stream, deleted)]
            told = [one for one in facts if not self._starts.buried(one.stream, deleted)]
            left = set(map(id, wanted))
            refused = [block.head.key for block in blocks if id(block) not in left]
            if not wanted and not told:
                return refused
            try:
                return refused + self._write_wanted(run, deleted, wanted, told)
            except _DeletedMeanwhile:
                continue

    def _write_wanted(
        self, run: str, deleted: int | None, blocks: Sequence[Block], facts: Sequence[Facts]
    ) -> list[BlockKey]:
        with self._database(run) as database:
            packed = storing.pack(blocks, database.codec)
            with transaction(database.connection):
                # From here on a deletion removes what is written.
                standing = database.stands(self._layout.database(run))
                if not standing or self._layout.deleted(run) != deleted:
                    raise _DeletedMeanwhile
                repeats = storing.store(database.connection, packed, facts)
                for one in facts:
                    if one.end is not None:
                        self._finish(database, one.stream)
            if training.due(database.connection, database.known):
                self._train(database)
            return repeats

    def _finish(self, database: _Database, stream: StreamKey) -> None:
        found = find_stream(database.connection, stream)
        if found is not None:
            blocks = StreamBlocks(database.connection, *found, database.codec)
            blocks.finish()

    def _train(self, database: _Database) -> None:
        connection, codec = database.connection, database.codec
        database.known = training.learn(connection, codec)
        if training.due(connection, database.known):
            database.known = training.train(connection, codec, database.known)

    def _compact(
        self, streams: Sequence[StreamKey], at: compacting.Step
    ) -> tuple[Sequence[StreamKey], compacting.Step, int]:
        """Merge blocks of streams of a run in one transaction: those of slow streams lie side by
        side, and a page that is changed for many is written once.
        """
        run, vanished, size = streams[0].run, 0, 0
        if self._layout.removing(run) or not self._layout.database(run).exists():
            return (), at, 0
        with self._database(run) as database, transaction(database.connection):
            self._learn(database)
            while streams and size < compacting.STEP_BYTES:
                at = compacting.step(database.connection, streams[0], at, database.codec)
                vanished, size = vanished + at.vanished, size + at.size
                if at.done:
                    streams, at = streams[1:], compacting.START
        return streams, at, vanished

    def _learn(self, database: _Database) -> None:
        """Learn dictionaries that another worker trained."""
        if training.number(database.connection) > database.known:
            database.known = training.learn(database.connection, database.codec)

    def _fragmented(self, run: str) -> list[StreamKey]:
        if self._layout.removing(run) or not self._layout.database(run).exists():
            return []
        with self._database(run) as database:
            return compacting.fragmented(database.connection, run)

    def _polish(self, run: str, task: polishing.Task | None) -> polishing.Task | None:
        if self._layout.removing(run) or not self._layout.database(run).exists():
            return None
        with self._database(run) as database, transaction(database.connection):
            if task is None:
                return polishing.begin(database.connection)
            return polishing.step(database.connection, run, database.codec, task)

    def _delete(self, run: str) -> bool:
        database = self._layout.found(run)
        with translated(database), self._layout.locked():
            self._layout.finish(database)
            if not database.exists():
                return False
            opened = self._open.pop(run, None)
            self._layout.remove(database, run, now_us())
            if opened is not None:
                opened.connection.close()
        self._catalog.forget(database)
        return True

    @contextmanager
    def _database(self, run: str) -> Iterator[_Database]:
        path = self._layout.database(run)
        with translated(path):
            database = self._open.get(run)
            if database is not None and not database.stands(path):
                # Deleted and begun anew by others: what is written to the old one nobody sees.
                del self._open[run]
                database.connection.close()
                database = None
            if database is None:
                self._let_go()
                while len(self._open) >= MOST_OPEN:
                    self._rest(*self._open.popitem(last=False))
                connection = self._connect(path, run)
                database = _Database(connection, Codec(), 0, os.stat(path).st_ino)
                self._open[run] = database
                database.known = training.learn(database.connection, database.codec)
            self._open.move_to_end(run)
            try:
                yield database
            except sqlite3.Error:
                # The next use opens it anew: a full disk or a damaged page may leave it unusable.
                self._open.pop(run, None)
                database.connection.close()
                raise

    def _let_go(self) -> None:
        """Close what others have deleted: the disk has its bytes back when nobody holds them."""
        for run, database in list(self._open.items()):
            if not database.stands(self._layout.database(run)):
                del self._open[run]
                database.connection.close()

    def _connect(self, path: Path, run: str) -> sqlite3.Connection:
        if path.exists() and not self._layout.removing(run):
            return open_for_writing(path, run)
        with self._layout.locked():
            self._layout.finish(path)
            return open_for_writing(path, run)

    def _close_all(self) -> None:
        while self._open:
            self._rest(*self._open.popitem())

    def _rest(self, run: str, database: _Database) -> None:
        """Close a database and remember how it looks, so that lists need not open it."""
        path, connection = self._layout.database(run), database.connection
        if not database.stands(path):
            connection.close()
            return
        try:
            # A reader that was stopped in the middle must not stop the worker for long.
            connection.execute("PRAGMA busy_timeout = 1000")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            streams = stream_rows(connection, run)
            connection.close()
            seen = stamp(path)
        except sqlite3.Error:
            # What was committed stays in the log beside it; only lists will be slower.
            connection.close()
            return
        if seen is not None and not self._layout.removing(run):
            newest = max(
                (row.time_max for row in streams if row.time_max is not None), default=None
            )
            summary = summarise(streams) if streams else None
            self._catalog.put(path, seen, Resting(run, newest, summary))


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All or nothing, durable when left."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
