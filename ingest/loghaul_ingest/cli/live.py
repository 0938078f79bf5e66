"""`loghaul logs -f`: the loop around a follower, and how its news are printed."""

from __future__ import annotations

import heapq
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from loghaul.chunk import StreamKey
from loghaul.config import Settings
from loghaul_ingest.cli import terminal
from loghaul_ingest.cli.home import CATCH_UP_SECONDS, bring_up_to_date
from loghaul_ingest.cli.logs import Show, plain
from loghaul_ingest.cli.printer import Printer, Source, Style
from loghaul_ingest.follow import Follower, News
from loghaul_ingest.merge import merge
from loghaul_ingest.stores.base import Reader

#: Between two looks at the spool, while lines come and when none came for a while.
BUSY_SECONDS = 0.02
IDLE_SECONDS = 0.05


def follow(
    show: Show,
    reader: Reader,
    settings: Settings,
    run: str,
    style: Style,
    starts: Mapping[StreamKey, int],
) -> None:
    """Print what is there, then what comes, until the run has ended and all of it was read."""
    # With a transport a byte may have left the spool and not be in the store yet: a follower of
    # both would call that a gap. The store alone has all of it, a moment later.
    spool = Path(os.devnull) if settings.transport else Path(settings.spool)
    follower = Follower(reader, spool, run, show.some_files, starts)
    try:
        live = _Live(show, follower, style)
        live.history()
        if not follower.files and follower.running:
            terminal.notice(f"run {run} has nothing of this yet; waiting for it")
        while True:
            running = follower.running
            news = follower.poll()
            live.print(news)
            if not running and not news:
                live.print(follower.finish())
                live.finish()
                if not follower.files:
                    show.files(reader.streams(run))  # says what there is instead
                return
            if follower.silent:
                bring_up_to_date(settings, CATCH_UP_SECONDS)
            time.sleep(BUSY_SECONDS if news else IDLE_SECONDS)
    finally:
        follower.close()


class _Live:
    """Prints the news of a follower; knows the sources, which may become more."""

    def __init__(self, show: Show, follower: Follower, style: Style) -> None:
        self._show, self._follower, self._style = show, follower, style
        watched = style.colour and style.collapse and sys.stdout.isatty()
        self._printer = Printer(style, live=watched)
        self._sources: dict[StreamKey, Source] = {}
        self._files = 0

    def history(self) -> None:
        """Print what the store has, with --tail the last of it."""
        found = self._follower.history()
        self._learn()
        sources = [self._sources[stream.facts.stream] for stream, _ in found]
        self._show.print(sources, [items for _, items in found], more=True)
        terminal.flush()

    def print(self, news: Sequence[News]) -> None:
        """Print what came, line by line in order of arrival."""
        if not news:
            return
        self._learn()
        sources = [self._sources[stream.facts.stream] for stream, _ in news]
        if plain(self._style, list(self._sources.values())):
            kinds = [source.facts.kind for source in sources]
            items: list[Any] = [(items, kind) for (_, items), kind in zip(news, kinds, strict=True)]
            for part in merge(items):
                self._printer.plain(sources[part.source], part.item)
        else:
            streams = [
                source.lines(items, self._style, last=stream.done)
                for source, (stream, items) in zip(sources, news, strict=True)
            ]
            for line in heapq.merge(*streams, key=lambda line: line.time_us):
                self._printer.line(line)
        terminal.flush()

    def finish(self) -> None:
        """The run has ended."""
        self._printer.finish()
        terminal.flush()

    def _learn(self) -> None:
        """Take up streams and files that joined; with a second file, lines say whose they are."""
        streams = self._follower.streams
        if len(streams) == len(self._sources) and len(self._follower.files) == self._files:
            return
        self._files = len(self._follower.files)
        known = {source.facts.stream: source for source in self._show.sources(self._follower.files)}
        files = {(source.file.writer, source.file.path): source for source in known.values()}
        for key, stream in streams.items():
            source = known.get(key)
            if source is None:
                path = str(stream.facts.common.get("log.file.path") or key.stream)
                twin = files[key.writer, path]
                source = Source(stream.facts, twin.file, twin.label, twin.colour)
            self._sources[key] = source
