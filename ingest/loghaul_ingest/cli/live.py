"""`loghaul logs -f`: the loop around a follower, and how its news are printed."""

from __future__ import annotations

import heapq
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from loghaul.chunk import StreamKey
from loghaul.config import Settings
from loghaul_ingest.cli import terminal
from loghaul_ingest.cli.home import CATCH_UP_SECONDS, bring_up_to_date
from loghaul_ingest.cli.printer import Printer, Source, Style, view_of
from loghaul_ingest.cli.show import Show, plain
from loghaul_ingest.feeds import open_feed
from loghaul_ingest.follow import Follower, News
from loghaul_ingest.followed import Followed
from loghaul_ingest.merge import merge
from loghaul_ingest.pieces import Item, Piece, cut
from loghaul_ingest.stores.base import Reader

#: After lines came, more of them are collected for so long before they are printed.
BUSY_SECONDS = 0.02
#: With --tail the last lines are those that the topic has too: it is waited for this long.
LISTEN_SECONDS = 5.0


def follow(
    show: Show,
    reader: Reader,
    settings: Settings,
    run: str,
    style: Style,
    starts: Mapping[StreamKey, int],
) -> None:
    """Print what is there, then what comes, until the run has ended and all of it was read."""
    feed, ask = open_feed(settings, run)
    try:
        follower = Follower(reader, feed, run, show.some_files, starts, ask=ask)
        if show.tail is not None:
            _listen(follower)
        live = _Live(show, follower, style)
        live.history()
        while True:
            news = follower.poll()
            live.print(news)
            live.warn(run)
            if not news and follower.over:
                live.print(follower.finish())
                live.finish()
                if not follower.files:
                    show.files(reader.streams(run))  # says what there is instead
                return
            if follower.silent:
                bring_up_to_date(settings, CATCH_UP_SECONDS)
            if news:
                time.sleep(BUSY_SECONDS)
            else:
                follower.wait()
    finally:
        feed.close()


def _listen(follower: Follower) -> None:
    """Let the feed come up to date, within a bound."""
    until = time.monotonic() + LISTEN_SECONDS
    while not follower.listen() and time.monotonic() < until:
        follower.wait()


class _Live:
    """Prints the news of a follower; knows the sources, which may become more."""

    def __init__(self, show: Show, follower: Follower, style: Style) -> None:
        self._show, self._follower, self._style = show, follower, style
        watched = style.colour and style.collapse and sys.stdout.isatty()
        self._printer = Printer(style, live=watched)
        self._sources: dict[StreamKey, Source] = {}
        self._files = 0
        self._trouble = self._waiting = False
        self._passed: set[Followed] = set()

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
        news = [(stream, self._since(stream, items)) for stream, items in news]
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

    def _since(self, stream: Followed, items: list[Item]) -> list[Item]:
        """Leave out lines from before --since that the store did not have yet."""
        since = self._show.since
        if since is None or stream in self._passed:
            return items
        for number, item in enumerate(items):
            view = view_of(stream.facts, item) if isinstance(item, Piece) else None
            for span in view.spans() if view is not None else ():
                assert view is not None and isinstance(item, Piece)
                if view.time_of(span) >= since:
                    self._passed.add(stream)
                    first = cut(item.offset, item, view.offset_of(span), None)
                    return [first, *items[number + 1 :]]
        return []

    def warn(self, run: str) -> None:
        """Say that nothing is there, or, once each time that it fails, why lines come late."""
        trouble = self._follower.trouble
        if not (self._waiting or self._follower.files) and self._follower.waits:
            self._waiting = True
            terminal.notice(f"run {run} has nothing of this yet; waiting for it")
        if trouble and not self._trouble:
            terminal.notice(f"{trouble}; lines are shown when they are stored, until that works")
        self._trouble = bool(trouble)

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
