"""Pages of hits, newest first over everything.

Hits are ordered by (time, run, writer, stream, offset), greatest first: a total order, so that a
cursor is one place in it, and no hit is given twice or lost between two pages. A page is done when
no unread candidate's greatest time reaches its oldest hit.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterator
from typing import NamedTuple

from loghaul_ingest.block import Head
from loghaul_ingest.errors import UsageError
from loghaul_ingest.event import event
from loghaul_ingest.lines import Span
from loghaul_ingest.query import tree as nodes
from loghaul_ingest.query.propose import propose
from loghaul_ingest.search.catalog import Catalog
from loghaul_ingest.search.context import around
from loghaul_ingest.search.loading import FIRST, Given, fresh, load
from loghaul_ingest.search.request import NEWEST, Hit, Page, Request, place_of, written
from loghaul_ingest.stores.base import Reader
from loghaul_ingest.view import View, open_view

Place = tuple[int, str, str, str, int]
"""Time, run, writer, stream, offset: where a hit stands in the order."""


class Found(NamedTuple):
    """A hit before it is an event."""

    place: Place
    view: View
    span: Span


def limited(request: Request) -> nodes.Tree:
    """Return the request's tree with its times."""
    if request.since is None and request.until is None:
        return request.query.tree
    return nodes.all_of([request.query.tree, nodes.Time(request.since, request.until)])


def hit(reader: Reader, found: Found, lines: int) -> Hit:
    """Return a hit as the event it is, with `lines` of context."""
    view, span = found.view, found.span
    before, after = around(reader, view, span, lines) if lines else ((), ())
    stream, offset = view.facts.stream, found.place[4]
    return Hit(found.place[0], stream, offset, event(view, span), before, after)


def newest(reader: Reader, request: Request) -> Page:
    """Return the newest hits before the cursor."""
    search = _Newest(reader, request)
    kept, reached = search.run()
    hits = [hit(reader, found, request.context) for found in kept]
    if reached is not None:
        return Page(hits, written((NEWEST, search.place(reached))), False, reached + 1)
    if not search.more:
        return Page(hits, None, True, None)
    return Page(hits, written((NEWEST, kept[-1].place)), False, kept[-1].place[0])


class _Newest:
    """One page in the making: a heap of the best hits so far, its worst first.

    more    there are hits beyond the page, or blocks that nobody has read
    """

    def __init__(self, reader: Reader, request: Request) -> None:
        self._reader = reader
        self._limit = max(1, request.limit)
        tree = limited(request)
        self._tree, self._runs = tree, request.runs
        self._catalog = Catalog(reader, tree)
        self._before: Place | None = None
        if request.cursor:
            self._before = _checked(place_of(request.cursor, NEWEST))
        self._best: list[tuple[Place, int, View, Span]] = []
        self._deadline = None if request.seconds is None else time.monotonic() + request.seconds
        self._numbered = 0
        self.more = False

    def run(self) -> tuple[list[Found], int | None]:
        """Return the hits, newest first; and the time down to which all is certain, if cut off."""
        given, reached = Given(), None
        for stored in load(self._reader, self._heads(), self._catalog.wanted, self._needed):
            if self._done(stored.head):
                self.more = True
                continue
            if self._deadline is not None and time.monotonic() > self._deadline:
                reached = stored.head.time_max
                break
            bound = self._catalog.of(stored.head)
            if bound.matcher is None:
                continue
            view = open_view(self._reader, bound.facts, stored)
            spans = fresh(view, bound.matcher.spans(view), given.take(stored.head))
            for span in reversed(spans):
                self._offer(view, span)
        kept = [Found(place, view, span) for place, _, view, span in sorted(self._best)[::-1]]
        if reached is not None:
            kept = [found for found in kept if found.place[0] > reached]
        return kept, reached

    def place(self, reached: int) -> Place:
        """Return the place behind everything later than `reached`, never one before the cursor."""
        place: Place = (reached + 1, "", "", "", -1)
        return place if self._before is None else min(place, self._before)

    def _heads(self) -> Iterator[Head]:
        before = None if self._before is None else self._before[0] + 1
        for head in self._reader.candidates(propose(self._tree), self._runs, before):
            if self._done(head):
                self.more = True
                return
            yield head

    def _needed(self, read: int) -> int:
        """How many more blocks would fill the page if they held as many hits as those read."""
        missing = self._limit - len(self._best)
        if not missing:
            return read + FIRST
        return 8 * read if not self._best else -(-missing * read // len(self._best))

    def _done(self, head: Head) -> bool:
        """Whether no hit of a block can be better than the worst of a full page."""
        return len(self._best) >= self._limit and head.time_max < self._best[0][0][0]

    def _offer(self, view: View, span: Span) -> None:
        stream = view.facts.stream
        place = (view.time_of(span), *stream, view.offset_of(span))
        if self._before is not None and place >= self._before:
            return
        self._numbered += 1
        offer = (place, self._numbered, view, span)
        if len(self._best) < self._limit:
            heapq.heappush(self._best, offer)
        else:
            self.more = True
            heapq.heappushpop(self._best, offer)


def _checked(place: object) -> Place:
    if (
        isinstance(place, list)
        and len(place) == 5
        and all(isinstance(place[i], int) for i in (0, 4))
        and all(isinstance(place[i], str) for i in (1, 2, 3))
    ):
        return (place[0], place[1], place[2], place[3], place[4])
    raise UsageError("this cursor is of another search: start without one")
