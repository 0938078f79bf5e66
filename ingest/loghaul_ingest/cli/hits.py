"""Hits of a search as text, in the manner of ripgrep: under a heading per file on a terminal, with
the place before each line elsewhere; with context, `--` between groups that do not touch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from loghaul_ingest.cli import terminal
from loghaul_ingest.cli.printer import highlighted
from loghaul_ingest.event import render
from loghaul_ingest.query import Query
from loghaul_ingest.search import Hit


def in_file_order(hits: Sequence[Hit]) -> list[Hit]:
    """Return hits file by file, the file of the newest hit first, in order within each file."""
    groups: dict[tuple[Any, ...], list[Hit]] = {}
    for hit in hits:
        path = hit.event.get("log.file.path")
        groups.setdefault((hit.stream.run, hit.stream.writer, path), []).append(hit)
    return [
        hit
        for group in groups.values()
        for hit in sorted(group, key=lambda hit: (hit.time_us, hit.offset))
    ]


class Hits:
    """Prints hits that are in file order. Each has a line of context more than is shown: it tells
    whether the next group touches."""

    def __init__(self, query: Query, context: int, color: str) -> None:
        self._query, self._context = query, context
        self._colour = terminal.wants_colour(color)
        self._heading = terminal.wants_colour() or color == "always"
        self._place = ""
        self._file: tuple[Any, Any] | None = None
        self._shown_to = -1
        self._next: int | None = None  # offset of the line behind the last one that was shown

    def print(self, hits: Sequence[Hit]) -> None:
        """Print all hits."""
        offsets: dict[Any, set[int]] = {}
        for hit in hits:
            offsets.setdefault(hit.stream, set()).add(hit.offset)
        for hit in hits:
            self._hit(hit, offsets[hit.stream])

    def _hit(self, hit: Hit, offsets: set[int]) -> None:
        file = (hit.stream, hit.event.get("log.file.path"))
        if file != self._file:
            self._shown_to, self._next = -1, None
        before = hit.before[-self._context :] if self._context else ()
        before = [one for one in before if one["log.offset"] > self._shown_to]
        first = before[0]["log.offset"] if before else hit.offset
        self._separate(place_of(hit.event), first)
        self._file = file
        for one in before:
            self._line(one, "-")
        self._line(hit.event, ":")
        self._shown_to, self._next = hit.offset, None
        for number, one in enumerate(hit.after):
            self._next = one["log.offset"]
            if number == self._context or self._next in offsets:
                break
            self._line(one, "-")
            self._shown_to, self._next = one["log.offset"], None

    def _separate(self, place: str, first: int) -> None:
        if self._heading and place != self._place:
            gap = "" if self._file is None else "\n"
            _write(gap + click.style(place, fg="magenta", bold=True))
        elif self._context and self._file is not None and first != self._next:
            _write("--")
        self._place = place

    def _line(self, event: Mapping[str, Any], sign: str) -> None:
        text = "\n".join(terminal.escape(part) for part in render(dict(event)).split("\n"))
        text = text.replace("\\x09", "\t")
        at = event["log.offset"]
        if self._heading:
            before = f"{str(event['@timestamp'])[:23].replace('T', ' ')} @{at}{sign} "
        else:
            before = f"{place_of(event)}@{at}{sign}"
        if self._colour:
            shown = sign == ":"
            text = highlighted(text, self._query) if shown else click.style(text, dim=True)
            before = click.style(before, fg="bright_black")
        _write(before + text)


def place_of(event: Mapping[str, Any]) -> str:
    """Return where a line stands: run, node, rank, attempt, file."""
    parts = [str(event.get("run.id", "")), str(event.get("run.node") or event.get("host.name", ""))]
    if event.get("run.attempt", 1) != 1:
        parts.append(f"attempt {event['run.attempt']}")
    if event.get("run.rank") is not None:
        parts.append(f"rank {event['run.rank']}")
    return terminal.escape(" ".join([*parts, str(event.get("log.file.path", ""))]))


def _write(text: str) -> None:
    terminal.write(text.encode("utf-8", "replace") + b"\n")
