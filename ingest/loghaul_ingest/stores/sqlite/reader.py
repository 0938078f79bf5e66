"""The reading half: short read transactions, nothing held between two answers."""

from __future__ import annotations

import heapq
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from itertools import groupby
from pathlib import Path

from loghaul.chunk import BLOB, StreamKey
from loghaul_ingest.block import BlockKey, Facts, Head
from loghaul_ingest.errors import StoreDamaged
from loghaul_ingest.query.proposal import Proposal
from loghaul_ingest.runs import summarise
from loghaul_ingest.stores import totals
from loghaul_ingest.stores.base import RunRow, Stored, StreamRow, Tally
from loghaul_ingest.stores.sqlite.catalog import Catalog, Resting
from loghaul_ingest.stores.sqlite.codec import Codec
from loghaul_ingest.stores.sqlite.database import translated
from loghaul_ingest.stores.sqlite.layout import Layout, size_bytes
from loghaul_ingest.stores.sqlite.pool import Pool
from loghaul_ingest.stores.sqlite.rows import (
    HEAD,
    HEADS_PAGE,
    find_stream,
    head_of,
    heads_page,
    run_of,
    stream_facts,
    stream_rows,
)
from loghaul_ingest.stores.sqlite.searching import search_run
from loghaul_ingest.stores.sqlite.training import learn
from loghaul_ingest.stores.tally import tally_of

_FIRST_LOAD, _LARGEST_LOAD = 4, 64
_FOREVER = 1 << 62
_MOST_CODECS = 64


class SqliteReader:
    """See `base.Reader`. Never changes a file; needs no right to."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._catalog = Catalog(layout)
        self._pool = Pool()
        self._local = threading.local()

    def runs(self) -> Sequence[RunRow]:
        """See `base.Reader`."""
        rows = []
        for path, resting in self._known().items():
            try:
                row = resting.summary if resting else None
                # What goes on by the catalog may have been silent for too long since.
                if row is None or row.status == "running":
                    row = self._summary(path)
            except StoreDamaged:
                row = _damaged_row(path)
            if row is not None:
                rows.append(row)
        return sorted(rows, key=lambda row: (-row.started, row.run))

    def streams(self, run: str) -> Sequence[StreamRow]:
        """See `base.Reader`."""
        with self._run(run) as connection:
            return stream_rows(connection, run) if connection else []

    def facts(self, runs: Iterable[str]) -> Mapping[str, Sequence[Facts]]:
        """See `base.Reader`."""
        found: dict[str, Sequence[Facts]] = {}
        for run in dict.fromkeys(runs):
            with self._run(run) as connection:
                known = stream_facts(connection, run).values() if connection else ()
            if known:
                found[run] = sorted(known, key=totals.facts_by_start)
        return found

    def heads(self, stream: StreamKey, start: int = 0, end: int | None = None) -> Iterator[Head]:
        """See `base.Reader`."""
        position, limit = None, _FOREVER if end is None else end
        last, given, generation = -1, max(start, 0), None
        while True:
            with self._run(stream.run) as connection:
                page = heads_page(connection, stream, position, given, limit, generation)
            if page is None:
                return
            for row in page.rows:
                # Behind a compaction a block may begin where the walk has been, and end further.
                if (row[0] > last or row[0] + row[1] > given) and row[0] + row[1] > start:
                    yield head_of(stream, page.kind, row)
                    last, given = max(last, row[0]), max(given, row[0] + row[1])
            if len(page.rows) < HEADS_PAGE:
                return
            position, generation = page.rows[-1][0], page.generation

    def load(self, keys: Sequence[BlockKey]) -> Iterator[Stored]:
        """See `base.Reader`."""
        start, size = 0, _FIRST_LOAD if len(keys) > _LARGEST_LOAD else _LARGEST_LOAD
        while start < len(keys):
            part = keys[start : start + size]
            for stream, group in groupby(part, lambda key: key.stream):
                yield from self._load(stream, [key.offset for key in group])
            start += size
            size = min(size * 4, _LARGEST_LOAD)

    def candidates(
        self,
        proposal: Proposal,
        runs: Iterable[str] | None = None,
        before: int | None = None,
    ) -> Iterator[Head]:
        """See `base.Reader`."""
        chosen, broken = self._chosen(runs)
        # Runs not begun and those under way, each the newest first.
        waiting = [(-newest, order, run) for order, (run, newest) in enumerate(chosen)]
        heapq.heapify(waiting)
        begun: list[tuple[int, int, Head, Iterator[Head]]] = []
        while waiting or begun:
            try:
                if waiting and (not begun or waiting[0][0] <= begun[0][0]):
                    _, order, run = heapq.heappop(waiting)
                    walk = self._search(run, proposal, before)
                else:
                    _, order, head, walk = heapq.heappop(begun)
                    yield head
                following = next(walk, None)
            except StoreDamaged as error:
                broken = broken or error
                continue
            if following is not None:
                heapq.heappush(begun, (-following.time_max, order, following, walk))
        if broken is not None:
            # The others were searched to their end first.
            raise broken

    def tally(
        self, runs: Iterable[str] | None, since: int | None, until: int | None, bucket_us: int
    ) -> Mapping[StreamKey, Tally]:
        """See `base.Reader`."""
        found: dict[StreamKey, Tally] = {}
        for run, _ in self._chosen(runs)[0]:
            try:
                heads = list(self._counted(run, since, until))
            except StoreDamaged:
                if runs is not None:
                    raise
                continue  # the list of runs shows it as damaged
            found.update(tally_of(heads, since, until, bucket_us))
        return found

    def sizes(self) -> Mapping[str, int]:
        """See `base.Reader`: the files of runs, as they will be at rest. The write-ahead log of one
        that is being written to holds much of it twice, for a while.
        """
        found: dict[str, int] = {}
        for path, resting in self._known().items():
            try:
                found |= {resting.run: size_bytes(path)} if resting else self._pages(path)
            except StoreDamaged:
                found[path.name] = size_bytes(path)
        return found

    def _pages(self, path: Path) -> dict[str, int]:
        """Return the run of a database and the bytes of its pages, where it is still there."""
        with self._pool.connection(path) as connection:
            if connection is None:
                return {}
            pages, page_bytes = (
                connection.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("page_count", "page_size")
            )
            return {run_of(connection): pages * page_bytes}

    def close(self) -> None:
        """See `base.Reader`."""
        self._pool.close()

    def _counted(self, run: str, since: int | None, until: int | None) -> Iterator[Head]:
        where, parameters = ["lines > 0"], []
        if since is not None:
            where.append("time_max >= ?")
            parameters.append(since)
        if until is not None:
            where.append("time_min < ?")
            parameters.append(until)
        with self._run(run) as connection:
            if connection is None:
                return
            facts = stream_facts(connection, run)
            rows = connection.execute(
                f"SELECT stream, {HEAD} FROM blocks WHERE {' AND '.join(where)}", parameters
            ).fetchall()
        for row in rows:
            stream = facts.get(row[0])
            if stream is not None and stream.kind != BLOB:
                yield head_of(stream.stream, stream.kind, row[1:])

    def _search(self, run: str, proposal: Proposal, before: int | None) -> Iterator[Head]:
        return search_run(run, lambda: self._run(run), proposal, before)

    def _load(self, stream: StreamKey, offsets: Sequence[int]) -> Iterator[Stored]:
        with self._run(stream.run) as connection:
            found = find_stream(connection, stream) if connection else None
            if connection is None or found is None:
                return
            number, facts = found
            rows = connection.execute(
                f"SELECT data, marks, {HEAD} FROM blocks JOIN content USING (id) "
                f"WHERE stream = ? AND offset IN ({','.join('?' * len(offsets))})",
                (number, *offsets),
            ).fetchall()
            codec = self._codec(stream.run)
            if not all(codec.knows(row[0]) for row in rows):
                learn(connection, codec)
        by_offset = {row[2]: row for row in rows}
        path = self._layout.found(stream.run)
        for offset in offsets:
            row = by_offset.get(offset)
            if row is None:
                continue
            with translated(path):
                data, marks = codec.unpack(row[0]), codec.unpack_marks(row[1])
            yield Stored(head_of(stream, facts.kind, row[2:]), data, marks)

    def _codec(self, run: str) -> Codec:
        """Return the codec of a run, one per thread; another once it is begun anew."""
        if not hasattr(self._local, "codecs"):
            self._local.codecs = OrderedDict()
        codecs: OrderedDict[tuple[str, int | None], Codec] = self._local.codecs
        key = run, self._layout.deleted(run)
        codec = codecs.setdefault(key, Codec()) if key not in codecs else codecs[key]
        codecs.move_to_end(key)
        if len(codecs) > _MOST_CODECS:
            codecs.popitem(last=False)
        return codec

    def _run(self, run: str):  # type: ignore[no-untyped-def]
        path = self._layout.found(run)
        if self._layout.removing(run):
            self._pool.forget(path)
            return nullcontext(None)
        if not path.exists():
            self._pool.forget(path)
        return self._pool.connection(path)

    def _known(self) -> dict[Path, Resting | None]:
        """Return all databases, with what the catalog knows of those at rest."""
        catalog = self._catalog.read()
        with translated(self._layout.runs):
            listing = self._layout.listing()
        known: dict[Path, Resting | None] = {}
        for path, stamp in listing.items():
            row = catalog.get(path)
            known[path] = row[1] if row and stamp is not None and row[0] == stamp else None
        return known

    def _chosen(
        self, runs: Iterable[str] | None
    ) -> tuple[list[tuple[str, int]], StoreDamaged | None]:
        """Return runs, each with a time that no block of it exceeds; and what is damaged."""
        if runs is not None:
            # Few, and asked for by name: they are opened at once.
            return [(run, _FOREVER) for run in dict.fromkeys(runs)], None
        chosen: list[tuple[str, int]] = []
        broken: StoreDamaged | None = None
        for path, resting in self._known().items():
            try:
                run = resting.run if resting else self._run_of(path)
            except StoreDamaged as error:
                broken = broken or error
                continue
            newest = resting.time_max if resting else _FOREVER
            if run is not None and newest is not None:
                chosen.append((run, newest))
        return chosen, broken

    def _run_of(self, path: Path) -> str | None:
        with self._pool.connection(path) as connection:
            return run_of(connection) if connection else None

    def _summary(self, path: Path) -> RunRow | None:
        with self._pool.connection(path) as connection:
            if connection is None:
                return None
            rows = stream_rows(connection, run_of(connection))
        return summarise(rows) if rows else None


def _damaged_row(path: Path) -> RunRow:
    return RunRow(path.name, "", "", {}, "damaged", 0, None, 0, 0, 0, 0)
