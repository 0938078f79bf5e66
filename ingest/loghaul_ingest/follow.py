"""Live tail: what the store has of a run, then what its writers append, no line twice, none lost.

The spool is read as it grows, without waiting for a block to be sealed and without releasing
anything. Between store and spool stands arithmetic alone: each stream knows the offset up to
which it was given. Bytes below it are dropped, and bytes beyond it first ask the store for what
lies between (the worker took it in and released it meanwhile); what the store does not have
either is a gap, given as such.

`Follower.poll` is one step and never sleeps; who follows decides how often to take one.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from loghaul.chunk import Chunk, Gap, StreamKey
from loghaul.errors import SpoolError
from loghaul.spool import lock
from loghaul.spool.cutter import Cutter
from loghaul.spool.format import START
from loghaul.spool.reader import SpoolReader
from loghaul_ingest.block import Facts
from loghaul_ingest.files import File
from loghaul_ingest.pieces import Hole, Item, LineCutter, Piece, cut, holes, pieces
from loghaul_ingest.runs import summarise
from loghaul_ingest.stores.base import Reader, StreamRow

#: Streams that only the store knows (of other machines) are asked for so often.
STORE_SECONDS = 1.0
#: How long nothing must come before the locks of writers are looked at.
SILENCE_SECONDS = 2.0

_WRITER = re.compile(r"[0-9a-f]{32}")


class Stream:
    """A stream that is followed.

    given    everything before this offset was handed out, or waits in the cutter for its line's end
    done     it has ended and all of it was handed out
    """

    def __init__(self, facts: Facts, given: int) -> None:
        self.facts = facts
        self.given = given
        self.done = False
        self._cutter = LineCutter(facts.kind)

    def feed(self, item: Item) -> Iterator[Item]:
        """Hand out what of an item is new and whole."""
        if item.end <= self.given:
            return
        if isinstance(item, Hole):
            start = max(item.offset, self.given)
            item = item._replace(offset=start, length=item.end - start)
        else:
            item = cut(item.offset, item, self.given, None)
        self.given = item.end
        yield from self._cutter.feed(item)

    def finish(self) -> Iterator[Item]:
        """Hand out an unfinished last line: no more bytes come."""
        self.done = True
        yield from self._cutter.finish()

    @property
    def ended(self) -> bool:
        """Whether nothing is left to come."""
        return self.facts.end is not None and self.given >= self.facts.end.length


#: What one stream has to give, in its order.
News = tuple[Stream, list[Item]]


class Follower:
    """Follows the files of a run that `choose` picks, new ones included.

    choose       from all streams of the run, as far as they are known, the files to follow
    starts       offset to begin at, for streams that are there already; others begin at 0
    """

    def __init__(
        self,
        reader: Reader,
        spool: Path,
        run: str,
        choose: Callable[[Sequence[StreamRow]], Sequence[File]],
        starts: Mapping[StreamKey, int] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reader, self._spool, self._run = reader, spool, run
        self._choose, self._clock = choose, clock
        self._starts = starts or {}
        self._live: dict[str, tuple[SpoolReader, Cutter]] = {}
        self._seen: set[str] = set()
        self._told: dict[StreamKey, Facts] = {}
        self._stored: dict[StreamKey, StreamRow] = {}
        self._asked = self._moved = clock()
        self._unsure, self._running = True, True
        self.files: list[File] = []
        self.streams: dict[StreamKey, Stream] = {}
        # The spool is opened before the store is read: what is released in between is stored.
        self._discover()
        self._refresh()

    # -- what is known

    @property
    def running(self) -> bool:
        """Whether the run goes on, as far as store and spool tell."""
        if self._unsure:
            rows = self._rows()
            # A writer that has written nothing yet has no stream either.
            self._running = summarise(rows).status == "running" if rows else bool(self._live)
            self._unsure = False
        return self._running

    @property
    def silent(self) -> bool:
        """Whether nothing came for a while, although a writer that is read has gone.

        Then somebody should write its end (`catch_up` does).
        """
        if self._clock() - self._moved < SILENCE_SECONDS:
            return False
        self._moved = self._clock()
        return any(_left(reader.directory) for reader, _ in self._live.values())

    def _rows(self) -> list[StreamRow]:
        """Return the streams of the run: those of the store, and what the spool tells beyond."""
        rows = dict(self._stored)
        for key, facts in self._told.items():
            row = rows.get(key)
            if row is None:
                rows[key] = StreamRow(facts, 0, 0, 0, {}, None, None, ())
            elif row.facts.end is None and facts.end is not None:
                rows[key] = row._replace(facts=replace(row.facts, end=facts.end))
        return list(rows.values())

    def _refresh(self) -> None:
        """Ask the store what it has of the run, and choose again."""
        self._asked, self._unsure = self._clock(), True
        self._stored = {row.facts.stream: row for row in self._reader.streams(self._run)}
        self._choose_again()

    def _choose_again(self) -> None:
        known = {(file.writer, file.path) for file in self.files}
        rows = self._rows()
        for file in self._choose(rows):
            if (file.writer, file.path) not in known:
                self.files.append(file)
            for row in file.streams:
                key = row.facts.stream
                if key not in self.streams:
                    self.streams[key] = Stream(row.facts, self._starts.get(key, 0))
        facts = {row.facts.stream: row.facts for row in rows}
        for key, stream in self.streams.items():
            stream.facts = facts.get(key, stream.facts)

    # -- what is there

    def history(self) -> list[tuple[Stream, Iterator[Item]]]:
        """Return what the store has of each stream, to be taken before the first `poll`."""
        return [(stream, self._from_store(stream, None)) for stream in self.streams.values()]

    def _from_store(self, stream: Stream, until: int | None) -> Iterator[Item]:
        """Hand out what the store has from where a stream stands, up to `until`."""
        row = self._stored.get(stream.facts.stream)
        if row is None:
            return
        if until is None:
            until = row.stored + sum(length for _, length in row.holes)
        if until > stream.given:
            for item in pieces(self._reader, row.facts, stream.given, until):
                yield from stream.feed(item)

    # -- what comes

    def poll(self) -> list[News]:
        """Take one step: return what came since the last one."""
        self._discover()
        found: dict[StreamKey, list[Item]] = {}
        for writer in list(self._live):
            self._read(writer, found)
        if self._clock() - self._asked >= STORE_SECONDS:
            self._refresh()
            self._ask_store(found)
        for key, stream in self.streams.items():
            if stream.ended and not stream.done:
                found.setdefault(key, []).extend(stream.finish())
        news = [(self.streams[key], items) for key, items in found.items() if items]
        if news:
            self._moved = self._clock()
        return news

    def finish(self) -> list[News]:
        """Return what is left when the run has ended; unfinished lines and gaps are named."""
        found: dict[StreamKey, list[Item]] = {}
        for stream, items in self._drained():
            found.setdefault(stream.facts.stream, []).extend(items)
        self._refresh()
        for key, stream in self.streams.items():
            if stream.done:
                continue
            items = found.setdefault(key, [])
            items.extend(self._from_store(stream, None))
            if stream.facts.end is not None and stream.given < stream.facts.end.length:
                for item in pieces(self._reader, stream.facts, stream.given):
                    items.extend(stream.feed(item))
            items.extend(stream.finish())
        return [(self.streams[key], items) for key, items in found.items() if items]

    def _drained(self) -> Iterator[News]:
        """Read the spool until it gives nothing: a reader gives a bounded part at a time."""
        while self._live:
            news = self.poll()
            yield from news
            if not news:
                return

    def close(self) -> None:
        """Close what was opened. Nothing in the spool was changed."""
        for reader, _ in self._live.values():
            reader.close()
        self._live.clear()

    def _ask_store(self, found: dict[StreamKey, list[Item]]) -> None:
        """Take from the store what no spool here gives: writers elsewhere, or gone already."""
        for key, stream in self.streams.items():
            if key.writer not in self._live and not stream.done:
                found.setdefault(key, []).extend(self._from_store(stream, None))

    def _discover(self) -> None:
        """Open the writers of this run that were not there before."""
        try:
            names = os.listdir(self._spool)
        except OSError:
            return
        for name in names:
            if name in self._seen or not _WRITER.fullmatch(name):
                continue
            try:
                # From what is still there on, not from what was released: see `_between`.
                reader = SpoolReader(self._spool / name, START)
            except SpoolError as error:
                if error.permanent:
                    self._seen.add(name)
                continue
            self._seen.add(name)
            if reader.facts.get("run.id") == self._run:
                self._live[reader.id] = (reader, Cutter(reader))
            else:
                reader.close()

    def _read(self, writer: str, found: dict[StreamKey, list[Item]]) -> None:
        """Take what one writer appended."""
        reader, cutter = self._live[writer]
        for chunk, _ in cutter.chunks(0, flush=True):
            self._tell(chunk)
            stream = self.streams.get(chunk.key)
            if stream is not None:
                found.setdefault(chunk.key, []).extend(self._taken(stream, chunk))
        if reader.ended and cutter.idle:
            reader.close()
            del self._live[writer]
            self._unsure = True
            # Its directory may have gone before its last segment was opened here.
            self._asked = 0.0

    def _tell(self, chunk: Chunk) -> None:
        """Learn the facts of a stream from the spool, before the store has them."""
        known = self._told.get(chunk.key)
        if known is None and chunk.common is not None:
            known = Facts(chunk.key, chunk.kind, chunk.started, chunk.common)
            self._told[chunk.key] = known
            self._unsure = True
            if chunk.key not in self._stored:
                self._choose_again()
        if known is not None and chunk.end is not None:
            self._unsure = True
            self._told[chunk.key] = known = replace(known, end=chunk.end)
            if chunk.key in self.streams:
                stream = self.streams[chunk.key]
                stream.facts = replace(stream.facts, end=chunk.end)

    def _taken(self, stream: Stream, chunk: Chunk) -> Iterator[Item]:
        """Hand out what is new of a chunk; what lies before it, or was lost, the store may have."""
        for gap in chunk.gaps:
            yield from self._between(stream, gap.offset + gap.length, gap)
        yield from self._between(stream, chunk.offset, None)
        if chunk.data:
            yield from stream.feed(Piece(chunk.offset, chunk.data, chunk.marks))

    def _between(self, stream: Stream, until: int, gap: Gap | None) -> Iterator[Item]:
        """Come to `until`, by the store; what it does not have is a hole."""
        if until <= stream.given:
            return
        self._stored = {row.facts.stream: row for row in self._reader.streams(self._run)}
        row = self._stored.get(stream.facts.stream)
        facts = row.facts if row is not None else stream.facts
        if gap is not None and gap not in facts.gaps:
            facts = replace(facts, gaps=tuple(sorted((*facts.gaps, gap))))
        for item in pieces(self._reader, facts, stream.given, until):
            yield from stream.feed(item)
        if stream.given < until:
            for hole in holes(facts, stream.given, until):
                yield from stream.feed(hole)


def _left(directory: Path) -> bool:
    """Return whether nobody holds the lock of a writer's directory any more."""
    try:
        held = lock.take(directory)
    except OSError:
        return False
    if held is not None:
        os.close(held)
    return held is not None
