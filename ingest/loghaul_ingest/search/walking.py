"""Going through everything a query matches, for counts, histograms and facets.

A stream of which the query asks nothing but levels and times is counted from the counters of its
blocks; only blocks over an edge are read. Of the others the proposed blocks are read, newest first,
so that whoever watches knows how far back the figures reach.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from loghaul.chunk import StreamKey
from loghaul_ingest.block import Head
from loghaul_ingest.lines import Span
from loghaul_ingest.query import tree as nodes
from loghaul_ingest.query.fields import of_stream
from loghaul_ingest.query.matcher import matcher
from loghaul_ingest.query.propose import propose
from loghaul_ingest.search.catalog import Bound, Catalog
from loghaul_ingest.search.loading import Given, fresh, load
from loghaul_ingest.search.together import Together
from loghaul_ingest.stores.base import Reader, Tally
from loghaul_ingest.view import View, open_view

#: One bucket for all times: wider than any.
WIDEST = 1 << 62
_EVERY_SECONDS = 0.2


class Scope(NamedTuple):
    """What is gone through: the tree without its times, and the times."""

    tree: nodes.Tree
    runs: Sequence[str] | None
    since: int | None
    until: int | None

    def inside(self, head: Head) -> bool:
        """Whether every event of a block is in the times."""
        return (self.since is None or head.time_min >= self.since) and (
            self.until is None or head.time_max < self.until
        )


class Counted(NamedTuple):
    """A stream counted from its blocks' counters: (bucket, level or "") -> events."""

    bound: Bound
    counts: Mapping[tuple[int, str], int]


class Matched(NamedTuple):
    """A block with events that match. `inside`: all of the block is in the times."""

    bound: Bound
    view: View
    given: Sequence[tuple[int, int]]
    inside: bool


class Progress(NamedTuple):
    """How far a walk got: blocks read, and the time down to which everything is counted."""

    blocks: int
    searched_back_to: int | None


Watcher = Callable[[Progress], bool]
"""Called now and then; returns False to stop the walk there."""


def scope(
    tree: nodes.Tree, runs: Sequence[str] | None, since: int | None, until: int | None
) -> Scope:
    """Return a scope; times that the query itself says for all lines narrow it."""
    parts = tree.parts if isinstance(tree, nodes.And) else (tree,)
    left: list[nodes.Tree] = []
    for part in parts:
        if isinstance(part, nodes.Time):
            since = _tighter(max, since, part.since)
            until = _tighter(min, until, part.until)
        else:
            left.append(part)
    return Scope(nodes.all_of(left), runs, since, until)


def _tighter(
    choose: Callable[[int, int], int], first: int | None, second: int | None
) -> int | None:
    if first is None or second is None:
        return second if first is None else first
    return choose(first, second)


class Walk:
    """One pass over what matches.

    searched_back_to    None when all was gone through
    """

    def __init__(
        self, reader: Reader, scope: Scope, bucket_us: int = WIDEST, watch: Watcher | None = None
    ) -> None:
        self._reader, self.scope, self._bucket_us = reader, scope, bucket_us
        self._watch = watch
        self._catalog = Catalog(reader, scope.tree)
        self._tallied: set[StreamKey] = set()
        self._straddling: list[Head] = []
        self.searched_back_to: int | None = None

    def counted(self) -> Iterator[Counted]:
        """Yield what counters answer. Comes before `matched`."""
        if not _may_be_counted(self.scope.tree):
            return
        scope = self.scope
        tallies = self._reader.tally(scope.runs, scope.since, scope.until, self._bucket_us)
        streams = self._catalog.all({key.run for key in tallies})
        for key, tally in tallies.items():
            bound = streams.get(key)
            if bound is None or bound.matcher is None:
                continue
            if tally.overlapping or not _by_counter(bound.matcher.tree):
                continue
            self._tallied.add(key)
            self._straddling.extend(tally.straddling)
            yield Counted(bound, _of_levels(bound.matcher.tree, tally))

    def matched(self) -> Iterator[Matched]:
        """Yield the blocks that have to be read, newest first."""
        given, read, last = Given(), 0, time.monotonic()
        heads = self._catalog.among(self._heads())
        for stored in load(self._reader, heads, self._catalog.wanted):
            now = time.monotonic()
            if self._watch is not None and now - last > _EVERY_SECONDS:
                last = now
                if not self._watch(Progress(read, stored.head.time_max + 1)):
                    self.searched_back_to = stored.head.time_max + 1
                    return
            bound = self._catalog.of(stored.head)
            if bound.matcher is None:
                continue
            view = open_view(self._reader, bound.facts, stored)
            read += 1
            taken = given.take(stored.head)
            yield Matched(bound, view, taken, self.scope.inside(stored.head))

    def spans(self, matched: Matched) -> list[Span]:
        """Return the events of a block that match and were not given before."""
        bound, view = matched.bound, matched.view
        if bound.matcher is None:
            return []
        spans = fresh(view, bound.matcher.spans(view), matched.given)
        if matched.inside:
            return spans
        times = matcher(nodes.Time(self.scope.since, self.scope.until), bound.facts)
        kept = set(times.spans(view)) if times is not None else set()
        return [span for span in spans if span in kept]

    def count(self, matched: Matched) -> int:
        """Return how many events of a block match and were not given before."""
        if matched.inside and not matched.given and matched.bound.matcher is not None:
            return matched.bound.matcher.count(matched.view)
        return len(self.spans(matched))

    def total(self) -> int:
        """Return how many events of all of `matched` match."""
        total, together = 0, Together()
        for matched in self.matched():
            view, asked = matched.view, matched.bound.matcher
            if matched.inside and not matched.given and asked and together.takes(view, asked):
                total += together.add(view, asked)
            else:
                total += self.count(matched)
        return total + together.count()

    def _heads(self) -> Iterator[Head]:
        """Blocks over an edge, and those proposed of streams that no counter answered."""
        yield from sorted(self._straddling, key=lambda head: -head.time_max)
        if self._all_tallied():
            return
        scope = self.scope
        tree = nodes.all_of([scope.tree, nodes.Time(scope.since, scope.until)])
        for head in self._reader.candidates(propose(tree), scope.runs, scope.until):
            if head.stream not in self._tallied:
                yield head

    def _all_tallied(self) -> bool:
        if not self._tallied:
            return False
        return all(
            bound.matcher is None or key in self._tallied
            for key, bound in self._catalog.all(()).items()
        )


def _may_be_counted(tree: nodes.Tree) -> bool:
    """Whether counters can answer for any stream: nothing in the tree needs the lines."""
    if isinstance(tree, (nodes.And, nodes.Or)):
        return all(_may_be_counted(part) for part in tree.parts)
    if isinstance(tree, nodes.Not):
        return _may_be_counted(tree.part)
    if isinstance(tree, nodes.Field):
        return of_stream(tree.field)
    return isinstance(tree, (nodes.Every, nodes.Level))


def _by_counter(tree: nodes.Tree) -> bool:
    return isinstance(tree, (nodes.Every, nodes.Level)) or (
        isinstance(tree, nodes.Not) and isinstance(tree.part, nodes.Level)
    )


def _of_levels(tree: nodes.Tree, tally: Tally) -> Mapping[tuple[int, str], int]:
    if isinstance(tree, nodes.Every):
        return tally.counts
    inverted = isinstance(tree, nodes.Not)
    level = tree.part if isinstance(tree, nodes.Not) else tree
    names = level.names if isinstance(level, nodes.Level) else None
    return {
        (bucket, name): count
        for (bucket, name), count in tally.counts.items()
        if (bool(name) if names is None else name in names) != inverted
    }
