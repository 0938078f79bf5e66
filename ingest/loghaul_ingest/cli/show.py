"""What `logs` shows of a run: which files, from where, as bytes, text or events."""

from __future__ import annotations

import heapq
import itertools
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from loghaul.chunk import EVENTS
from loghaul_ingest import files as tree_of
from loghaul_ingest.cli import terminal
from loghaul_ingest.cli.home import Home
from loghaul_ingest.cli.printer import Line, Printer, Source, Style, labels
from loghaul_ingest.errors import NotFound
from loghaul_ingest.files import File
from loghaul_ingest.merge import joined, merge
from loghaul_ingest.pieces import Hole, Item, gaps_of, pieces, whole_lines
from loghaul_ingest.query import parse
from loghaul_ingest.runs import attempts, summarise
from loghaul_ingest.stores.base import StreamRow
from loghaul_ingest.tail import last_lines, last_matching
from loghaul_ingest.tail import since as since_offset


class Show:
    """One call of `logs`: which files, how, from where."""

    def __init__(self, home: Home, run: str, name: str | None, options: dict[str, Any]) -> None:
        self._reader, self._settings = home.reader, home.settings
        self._run, self._name, self._options = run, name, options
        self._style = _style(options)

    def files(self, rows: Sequence[Any]) -> list[File]:
        """Return the files that are meant, of those that the run has now."""
        options = self._options
        found = tree_of.tree(rows, attempts(rows))
        if not found:
            raise NotFound(f"run {self._run} has no files yet")
        found = tree_of.narrow(found, options["node"], options["rank"], options["attempt"])
        if self._name is not None:
            found = tree_of.select(found, self._name)
            if options["attempt"] is None:
                latest = max(file.attempt for file in found)
                found = [file for file in found if file.attempt == latest]
        else:
            found = tree_of.default(found)
        if options["stream"] is not None:
            found = tree_of.only_stream(found, options["stream"])
        return found

    def sources(self, found: Sequence[File]) -> list[Source]:
        """Return the streams of files with the label and colour of their file."""
        names = labels(found)
        colours = terminal.SOURCE_COLOURS
        return [
            Source(row.facts, file, names[index], colours[index % len(colours)])
            for index, file in enumerate(found)
            for row in file.streams
        ]

    def _starts(self, found: Sequence[File]) -> dict[Any, int]:
        """Return from where each stream is read; one of which nothing is shown is left out."""
        tail, since = self._options["tail"], self._options["since"]
        starts: dict[Any, int] = {}
        for file in found:
            for row in file.streams:
                start: int | None = 0
                if since is not None:
                    start = since_offset(self._reader, row, since)
                if start is not None and tail is not None:
                    start = self._tail(row, tail, start)
                if start is not None:
                    starts[row.facts.stream] = start
        return starts

    def _tail(self, row: StreamRow, tail: int, start: int) -> int | None:
        """Return where the last lines of a stream begin, at `start` at the earliest."""
        collapse = self._style.collapse and not self._options["raw"]
        if not self._style.queries:
            return max(start, last_lines(self._reader, row, tail, collapse))
        if not self._options["follow"]:
            return start  # `_matching` finds them itself
        found = last_matching(self._reader, row, tail, self._style.queries, collapse, start)
        return found[0][0].offset_of(found[0][1]) if found else None

    def _matching(self, source: Source, row: StreamRow, start: int) -> list[Line]:
        """Return the last lines of a stream that match, and the gaps among them."""
        tail, style = self._options["tail"], self._style
        found = last_matching(self._reader, row, tail, style.queries, style.collapse, start)
        lines = [Line(view.time_of(span), source, view, span) for view, span in found]
        if not found:
            return []
        offsets = [view.offset_of(span) for view, span in found]
        for gap in reversed(gaps_of(row.facts, row.holes)):
            place = bisect_left(offsets, gap.offset)
            if place:
                hole = Hole(gap.offset, gap.length, gap.reason, True)
                lines.insert(place, Line(lines[place - 1].time_us, source, None, (0, 0), hole))
        return lines

    def raw(self) -> None:
        """Write bytes as they are; what is missing is said on stderr."""
        found = self.files(self._reader.streams(self._run))
        starts = self._starts(found)
        streams = [
            (pieces(self._reader, row.facts, starts[row.facts.stream]), row.facts.kind)
            for file in found
            for row in file.streams
            if row.facts.stream in starts
        ]
        data: Any = joined(merge(streams))
        if self._options["tail"] is not None:
            data = _last(data, self._options["tail"])
        missing = 0
        for item in data:
            if isinstance(item, Hole):
                missing += item.length
            else:
                terminal.write(item)
        if missing:
            terminal.notice(f"{missing:,} bytes are missing; `loghaul files {self._run}` says why")

    def text(self) -> None:
        """Print lines, as text or as events."""
        found = self.files(self._reader.streams(self._run))
        starts = self._starts(found)
        sources = [one for one in self.sources(found) if one.facts.stream in starts]
        if self._style.queries and self._options["tail"] is not None:
            rows = {row.facts.stream: row for file in found for row in file.streams}
            keys = [source.facts.stream for source in sources]
            lines = [
                self._matching(source, rows[key], starts[key])
                for source, key in zip(sources, keys, strict=True)
            ]
            printer = Printer(self._style)
            for line in _last_of(heapq.merge(*lines, key=_time), self._options["tail"]):
                printer.line(line)
            return
        self.print(
            sources,
            [
                whole_lines(
                    pieces(self._reader, source.facts, starts[source.facts.stream]),
                    source.facts.kind,
                )
                for source in sources
            ],
        )

    def print(
        self, sources: Sequence[Source], items: Sequence[Iterable[Item]], more: bool = False
    ) -> None:
        """Print the items of sources, which are of whole lines; of these the last, with --tail.

        more    the streams go on behind these items
        """
        tail = self._options["tail"]
        if plain(self._style, sources):
            held: list[bytes] = []
            printer = Printer(self._style, terminal.write if tail is None else held.append)
            kinds = [source.facts.kind for source in sources]
            for part in merge(list(zip(items, kinds, strict=True))):
                printer.plain(sources[part.source], part.item)
            if not more:
                printer.finish()
            for data in _last(iter(held), tail) if tail is not None else ():
                terminal.write(data)
            return
        streams = [
            source.lines(one, self._style, last=not more)
            for source, one in zip(sources, items, strict=True)
        ]
        lines: Iterator[Line] = heapq.merge(*streams, key=_time)
        printer = Printer(self._style)
        for line in lines if tail is None else _last_of(lines, tail):
            printer.line(line)

    def follow(self) -> None:
        """Print what is there, then what comes, until the run ends."""
        from loghaul_ingest.cli.live import follow

        rows = self._reader.streams(self._run)
        if rows and summarise(rows).status != "running":
            self.files(rows)
        starts = {row.facts.stream: row.whole_until for row in rows}
        starts.update(self._starts(self._meant(rows)))
        follow(self, self._reader, self._settings, self._run, self._style, starts)

    @property
    def tail(self) -> int | None:
        """Of what is there so many last lines are shown; None: all."""
        found: int | None = self._options["tail"]
        return found

    @property
    def since(self) -> int | None:
        """Lines before this moment are not shown, microseconds."""
        found: int | None = self._options["since"]
        return found

    def some_files(self, rows: Sequence[Any]) -> list[File]:
        """Return the files that are meant, none when there are none yet."""
        found = self._meant(rows)
        return [] if self._name is None and _yet_to_speak(found, rows) else found

    def _meant(self, rows: Sequence[Any]) -> list[File]:
        try:
            return self.files(rows)
        except NotFound:
            return []


def _yet_to_speak(found: Sequence[File], rows: Sequence[StreamRow]) -> bool:
    """Whether these are shown for want of the outputs of a command that has just been started."""
    return (
        not any(file.path.startswith(tree_of.DRIVER_LOG) for file in found)
        and any(row.facts.common.get("role") == "supervisor" for row in rows)
        and summarise(rows).status == "running"
    )


def plain(style: Style, sources: Sequence[Source]) -> bool:
    """Return whether no line needs to be looked at: one file of text, shown as it is."""
    return (
        not style.by_line
        and len({(source.file.writer, source.file.path) for source in sources}) <= 1
        and all(source.facts.kind != EVENTS for source in sources)
    )


def _time(line: Line) -> int:
    return line.time_us


def _last_of(lines: Iterable[Line], count: int) -> Iterable[Line]:
    """Return the last `count` lines, with the gaps between them."""
    held: deque[Line] = deque()
    real = 0
    for line in lines:
        held.append(line)
        real += line.hole is None
        while real > count or (held and not count):
            real -= held.popleft().hole is None
    return held


def _style(options: dict[str, Any]) -> Style:
    now_us = int(time.time() * 1e6)
    queries = []
    shown = parse(options["query"], now_us) if options["query"] else None
    for hint in shown.hints if shown is not None else ():
        terminal.notice(str(hint))
    if shown is not None:
        queries.append(shown)
    if options["level"]:
        queries.append(parse(f"level:>={options['level'].lower()}", now_us))
    return Style(
        output=options["output"],
        timestamps=options["timestamps"],
        collapse=options["collapse"] and options["output"] == "text",
        colour=options["output"] == "text" and terminal.wants_colour(options["color"]),
        queries=tuple(queries),
        shown=shown,
    )


def _last(data: Iterator[Any], count: int) -> list[Any]:
    """Return the last `count` lines of pieces of bytes; holes between them stay."""
    held: list[Any] = []
    for whole, items in itertools.groupby(data, lambda item: isinstance(item, bytes)):
        if whole:
            held.append(b"".join(items))
        else:
            held.extend(items)
    found: list[Any] = []
    for item in reversed(held):
        if count <= 0:
            break
        if isinstance(item, bytes):
            cut = _cut_back(item, count)
            count -= item.count(b"\n", cut)
            item = item[cut:]
        found.append(item)
    return found[::-1]


def _cut_back(data: bytes, count: int) -> int:
    """Return where the last `count` lines of `data` begin; 0 when it has no more than that."""
    end = len(data) - 1 if data.endswith(b"\n") else len(data)
    for _ in range(count):
        end = data.rfind(b"\n", 0, end)
        if end < 0:
            return 0
    return end + 1
