"""Cuts what a reader gives into chunks: at most 256 KiB or 100 ms, whichever is first.

The clock is the caller's, so that a test steps it by hand.
"""

from __future__ import annotations

from typing import Any, Optional

from loghaul.chunk import (
    EVENTS,
    MAX_AGE_SECONDS,
    MAX_BYTES,
    Chunk,
    End,
    Gap,
    Mark,
    StreamKey,
)
from loghaul.spool.entry import Entry
from loghaul.spool.format import Position
from loghaul.spool.lines import TOGETHER_US
from loghaul.spool.reader import SpoolReader

MAX_AGE_US = int(MAX_AGE_SECONDS * 1_000_000)
#: Read at once; also the most that is read again when a worker dies.
READ_BYTES = 1024 * 1024


class _Open:
    """A chunk that is still growing."""

    __slots__ = ("data", "end", "gaps", "marks", "offset", "since", "size", "started_us")

    def __init__(self, offset: int, since: Position, now_us: int) -> None:
        self.offset, self.since, self.started_us = offset, since, now_us
        self.data: list[bytes] = []
        self.marks: list[Mark] = []
        self.gaps: list[Gap] = []
        self.end: Optional[End] = None
        self.size = 0


class Cutter:
    """Gives the chunks of one writer, each with the position that may be released after it.

    Chunks of a stream come in order of offset. A gap begins a new chunk. Facts of the stream are
    in the first chunk that this cutter gives of it, in the one at offset 0 and with an end.
    """

    def __init__(self, reader: SpoolReader) -> None:
        self._reader = reader
        self._open: dict[str, _Open] = {}
        self._introduced: set[str] = set()
        self._done: list[tuple[Chunk, Position]] = []

    @property
    def idle(self) -> bool:
        """True when nothing is held back: everything that was read was given as chunks."""
        return not self._open

    def chunks(self, now_us: int, flush: bool = False) -> list[tuple[Chunk, Position]]:
        """Read on, and return the chunks that are full, old enough, or ended; all with `flush`.

        now_us    any clock that does not step back, microseconds
        Position  releasable once this chunk and all before it are safe
        """
        since = self._reader.position
        for entry in self._reader.read(READ_BYTES):
            self._take(entry, since, now_us)
        for stream, growing in list(self._open.items()):
            if flush or self._reader.ended or now_us - growing.started_us >= MAX_AGE_US:
                self._cut(stream)
        return self._with_positions()

    def _take(self, entry: Entry, since: Position, now_us: int) -> None:
        if entry.gap is not None and entry.stream in self._open:
            self._cut(entry.stream)
        growing = self._open.get(entry.stream)
        if growing is None:
            growing = self._open[entry.stream] = _Open(entry.offset, since, now_us)
        if entry.gap is not None:
            growing.gaps.append(entry.gap)
            self._cut(entry.stream)
        elif entry.end is not None:
            growing.end = entry.end
            self._cut(entry.stream)
        else:
            self._fill(growing, entry, since, now_us)

    def _fill(self, growing: _Open, entry: Entry, since: Position, now_us: int) -> None:
        if growing.size + len(entry.data) > MAX_BYTES:
            self._cut(entry.stream)
            growing = self._open[entry.stream] = _Open(entry.offset, since, now_us)
        growing.data.append(entry.data)
        growing.size += len(entry.data)
        marks, first = growing.marks, entry.marks[0]
        if entry.kind == EVENTS and marks and 0 <= first.time_us - marks[-1].time_us < TOGETHER_US:
            marks[-1] = Mark(marks[-1].length + first.length, marks[-1].time_us)
        else:
            marks.extend(entry.marks)

    def _cut(self, stream: str) -> None:
        growing = self._open.pop(stream)
        declared = self._reader.streams[stream]
        common: Optional[dict[str, Any]] = None
        if not growing.offset or growing.end is not None or stream not in self._introduced:
            common = {**self._reader.facts, **declared.common()}
            self._introduced.add(stream)
        chunk = Chunk(
            StreamKey(str(self._reader.facts.get("run.id", "")), self._reader.id, stream),
            declared.kind,
            growing.offset,
            b"".join(growing.data),
            tuple(growing.marks),
            self._reader.started,
            common,
            growing.end,
            tuple(growing.gaps),
        )
        self._done.append((chunk, growing.since))

    def _with_positions(self) -> list[tuple[Chunk, Position]]:
        """Give each chunk the earliest place that something after it still needs."""
        held = min((growing.since for growing in self._open.values()), default=None)
        safe = self._reader.position if held is None else held
        given = []
        for chunk, since in reversed(self._done):
            given.append((chunk, safe))
            safe = min(safe, since)
        self._done.clear()
        return given[::-1]
