"""Lines as `logs` prints them: as they were written, with times and sources, or as events.

What needs no look at single lines goes through in whole pieces; only prefixes, times, filters,
records and ndjson take a line apart.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import click

from loghaul.chunk import EVENTS, Gap
from loghaul_ingest.block import Facts, Head
from loghaul_ingest.cli import terminal
from loghaul_ingest.event import event, render
from loghaul_ingest.files import File
from loghaul_ingest.pieces import Hole, Item, Piece
from loghaul_ingest.query import Query
from loghaul_ingest.view import View

Span = tuple[int, int]

#: A state that the next one overwrote; `\r\n` is the end of a line.
_OVERWRITTEN = re.compile(rb"[^\r\n]*\r(?!\n)")
_STATE_END = re.compile(rb"\r(?!\n)(?=.)", re.DOTALL)
_CLEAR = b"\x1b[2K"


@dataclass(frozen=True)
class Style:
    """How lines are shown.

    queries     a line is shown when all of them match
    shown       of these, the one whose words are highlighted
    """

    output: str = "text"
    timestamps: bool = False
    collapse: bool = True
    colour: bool = False
    queries: tuple[Query, ...] = ()
    shown: Query | None = None

    @property
    def by_line(self) -> bool:
        """Whether lines must be looked at one by one."""
        return self.output == "ndjson" or self.timestamps or bool(self.queries)


class Line(NamedTuple):
    """A line, or a hole, in order of time."""

    time_us: int
    source: Source
    view: View | None
    span: Span
    hole: Hole | None = None


@dataclass
class Source:
    """A stream that is shown. `label` tells it from the others, "" when it is the only file."""

    facts: Facts
    file: File
    label: str = ""
    colour: str = ""
    _matchers: list[Any] | None = field(default=None, repr=False)
    _state: Line | None = field(default=None, repr=False)

    def lines(self, items: Iterable[Item], style: Style, last: bool = True) -> Iterator[Line]:
        """Take items of whole lines apart into those that are shown.

        last    these are the last of the stream: a state that nothing overwrote is shown
        """
        matchers = self._bound(style)
        time_us = 0
        for item in items:
            if isinstance(item, Hole):
                yield Line(time_us, self, None, (0, 0), item)
                continue
            view = view_of(self.facts, item, asked=bool(matchers))
            self._state = None
            for span in self._spans(view, item, style, matchers):
                time_us = view.time_of(span)
                line = Line(time_us, self, view, span)
                if style.collapse and view.progress(span):
                    self._state = line
                else:
                    yield line
        if last and self._state is not None:
            yield self._state

    def _bound(self, style: Style) -> list[Any]:
        if self._matchers is None:
            self._matchers = [query.bind(self.facts) for query in style.queries]
        return self._matchers

    def _spans(
        self, view: View, item: Piece, style: Style, matchers: Sequence[Any]
    ) -> Iterable[Span]:
        if any(matcher is None for matcher in matchers):
            return ()
        spans: list[Span] = list(matchers[0].spans(view)) if matchers else view.spans()
        for matcher in matchers[1:]:
            kept = set(matcher.spans(view))
            spans = [span for span in spans if span in kept]
        if style.collapse and b"\r" in item.data:
            end = view.end  # where a state may still be the last one
            spans = [span for span in spans if span[1] == end or not view.progress(span)]
        return spans


#: Further than any time: a query then looks at the times of the lines themselves.
_FAR = 1 << 62


def view_of(facts: Facts, piece: Piece, asked: bool = False) -> View:
    """Return a view onto whole lines that came from anywhere: a store, or the live spool.

    asked    queries will be put to it, which look at what a block's head counts
    """
    head = Head(
        facts.stream,
        facts.kind,
        piece.offset,
        len(piece.data),
        head=0,
        time_min=-_FAR,
        time_max=_FAR,
        # More lines than there are: an unfinished last one is shown as a line too.
        lines=len(piece.data) + 1,
    )
    view = View(facts, head, piece.data, piece.marks)
    if asked:
        levels = Counter(level for _, _, level in view.level_lines())
        view.head = replace(head, levels=levels)
    return view


class Printer:
    """Writes lines to stdout. `write` takes bytes; used from one thread."""

    def __init__(
        self, style: Style, write: Callable[[bytes], object] = terminal.write, live: bool = False
    ) -> None:
        """`live`: a terminal watches; states of progress bars are shown over one another."""
        self._style = style
        self._write = write
        self._live = live
        self._on_state = False
        self._states: dict[Any, bytes] = {}

    def finish(self) -> None:
        """Nothing more comes: show the states of progress bars that nothing overwrote."""
        for state in self._states.values():
            self._write(self._tame(state) + b"\n")
        self._states.clear()
        if self._on_state:
            self._write(b"\n")
            self._on_state = False

    def plain(self, source: Source, item: Item) -> None:
        """Print whole lines of the only file as they are."""
        if isinstance(item, Hole):
            self._write(self._hole(source, item))
            return
        data = item.data
        if self._live:
            self._overwrite(data)
            return
        if self._style.collapse:
            data = self._collapsed(source, data)
        if data:
            self._write(self._tame(data if data.endswith(b"\n") else data + b"\n"))

    def _collapsed(self, source: Source, data: bytes) -> bytes:
        """Leave out overwritten states; the last one waits for what follows it."""
        self._states.pop(source.facts.stream, None)
        if source.facts.kind == EVENTS or b"\r" not in data:
            return data
        if data.endswith(b"\r"):
            start = max(data.rfind(b"\r", 0, -1), data.rfind(b"\n")) + 1
            self._states[source.facts.stream] = data[start:-1]
        return _OVERWRITTEN.sub(b"", data)

    def _overwrite(self, data: bytes) -> None:
        """Let states replace each other on the screen; a longer one leaves nothing behind."""
        if self._on_state:
            self._write(_CLEAR)
        self._on_state = data.endswith(b"\r")
        data = _STATE_END.sub(b"\r" + _CLEAR, self._tame(data))
        self._write(data if data.endswith((b"\n", b"\r")) else data + b"\n")

    def line(self, line: Line) -> None:
        """Print one line with all that the style asks for."""
        if self._style.output == "ndjson":
            self._write(self._event(line))
            return
        if line.hole is not None:
            self._write(self._hole(line.source, line.hole))
            return
        assert line.view is not None
        text, level = self._text(line)
        if self._style.colour:
            text = self._coloured(text, level)
        self._write(self._before(line) + text + b"\n")

    def _text(self, line: Line) -> tuple[bytes, str | None]:
        view = line.view
        assert view is not None
        if line.source.facts.kind != EVENTS:
            return self._tame(view.text(line.span).rstrip(b"\r\n")), None
        found = event(view, line.span, line.source.file.attempt)
        text = render(found).encode("utf-8", "surrogatepass")
        return self._tame(text), found.get("log.level")

    def _tame(self, data: bytes) -> bytes:
        """Colours of log lines only where colour is wanted; nothing that moves the cursor."""
        return terminal.colours_only(data) if self._style.colour else terminal.plain(data)

    def _coloured(self, text: bytes, level: str | None) -> bytes:
        colour = terminal.LEVEL_COLOURS.get(level or "")
        if self._style.shown is not None and b"\x1b" not in text:
            return highlighted(text.decode("utf-8", "replace"), self._style.shown).encode()
        if colour is None:
            return text + b"\x1b[0m" if b"\x1b" in text else text
        return click.style(text.decode("utf-8", "replace"), fg=colour).encode()

    def _before(self, line: Line) -> bytes:
        text = ""
        if line.source.label:
            label = f"[{line.source.label}] "
            text = click.style(label, fg=line.source.colour) if self._style.colour else label
        if self._style.timestamps:
            text += terminal.utc(line.time_us) + " "
        return text.encode("utf-8", "replace")

    def _event(self, line: Line) -> bytes:
        if line.hole is not None:
            return terminal.dumps(gap_event(line)) + b"\n"
        assert line.view is not None
        return terminal.dumps(event(line.view, line.span, line.source.file.attempt)) + b"\n"

    def _hole(self, source: Source, hole: Hole) -> bytes:
        if self._style.output == "ndjson":
            return terminal.dumps(gap_event(Line(0, source, None, (0, 0), hole))) + b"\n"
        text = f"-- {gap_text(source, hole)} --"
        text = click.style(text, fg="red", bold=True) if self._style.colour else text
        return text.encode("utf-8", "replace") + b"\n"


def highlighted(text: str, query: Query) -> str:
    """Return text with what a query found in bold red."""
    parts, at = [], 0
    for start, end in query.highlights(text):
        if start < at:
            continue
        parts += [text[at:start], click.style(text[start:end], fg="red", bold=True)]
        at = end
    return "".join(parts) + text[at:]


def place(source: Source) -> str:
    """Return who lost something: `rank 5`, else `node gpu-1`, and which of two outputs."""
    file = source.file
    name = f"rank {file.rank}" if file.rank is not None else f"node {terminal.escape(file.node)}"
    iostream = source.facts.common.get("log.iostream")
    return f"{name} {terminal.escape(iostream)}" if iostream else name


def gap_text(source: Source, hole: Hole) -> str:
    """Return a gap as people see it."""
    from loghaul_ingest.cli.files import describe

    return f"{place(source)}: {describe(Gap(hole.offset, hole.length, hole.reason), None)}"


def gap_event(line: Line) -> dict[str, Any]:
    """Return a gap as an event: `event.kind` is "gap"."""
    source, hole = line.source, line.hole
    assert hole is not None
    facts = source.facts
    found: dict[str, Any] = {
        "event.kind": "gap",
        "message": gap_text(source, hole),
        "event.reason": hole.reason,
        "log.offset": hole.offset,
        "log.length": hole.length,
        "event.id": f"{facts.stream}@{hole.offset}",
    }
    if line.time_us:
        found = {"@timestamp": terminal.utc(line.time_us), **found}
    kept = ("run.id", "run.node", "run.rank", "log.file.path", "log.iostream", "host.name")
    return {**found, **{name: facts.common[name] for name in kept if name in facts.common}}


def labels(files: Sequence[File]) -> dict[int, str]:
    """Return for each file (by place) what tells it from the others; "" for a single one."""
    if len(files) == 1:
        return {0: ""}
    several: dict[str, bool] = {
        name: len({getattr(file, name) for file in files}) > 1
        for name in ("attempt", "node", "rank", "path")
    }
    found = {}
    for index, file in enumerate(files):
        parts = [file.node]
        if several["attempt"]:
            parts.insert(0, f"attempt {file.attempt}")
        if file.rank is not None and several["rank"]:
            parts.append(str(file.rank))
        if several["path"]:
            parts.append(file.path.rsplit("/", 1)[-1])
        found[index] = terminal.escape("/".join(parts))
    if len(set(found.values())) < len(files):
        for index, file in enumerate(files):
            found[index] += f"/{file.pid or file.writer[:8]}"
    return found
