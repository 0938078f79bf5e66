"""Counting from counters, in OpenSearch: whole blocks by aggregation, heads of the others.

A block is counted where both its least and its greatest time lie in the same bucket. Blocks that
lie over an edge, of the range or between two buckets, are few: their heads are fetched.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from loghaul.chunk import BLOB, StreamKey
from loghaul_ingest.block import Head
from loghaul_ingest.stores.base import Tally
from loghaul_ingest.stores.opensearch import chains, queries
from loghaul_ingest.stores.opensearch.mapping import LEVELS
from loghaul_ingest.stores.opensearch.queries import Query
from loghaul_ingest.stores.opensearch.searches import Search

_LINES: Mapping[str, Any] = {
    "lines": {"sum": {"field": "lines"}},
    "odd": {"filter": {"term": {"odd": True}}},
    **{name: {"sum": {"field": f"levels.{name}"}} for name in LEVELS},
}

#: Beyond this a double is not exact: such buckets are all one.
_WIDEST = 1 << 52


class Counting:
    """One tally. `streams` tells the stream of an id."""

    def __init__(
        self, search: Search, streams: Mapping[str, StreamKey], excluded: Iterable[Query]
    ) -> None:
        self._search, self._streams = search, streams
        self._excluded = list(excluded)

    def tally(self, since: int | None, until: int | None, bucket_us: int) -> dict[StreamKey, Tally]:
        """See `base.Reader.tally`."""
        touching = [queries.from_on("time_max", since), queries.below("time_min", until)]
        counts: dict[str, dict[tuple[int, str], int]] = {}
        edges = self._count(since, until, bucket_us, counts)
        straddling = {head.key: head for head in self._over_range(since, until, touching)}
        for head in self._over_edges(edges, touching):
            straddling[head.key] = head
        by_stream: dict[StreamKey, list[Head]] = {}
        for head in straddling.values():
            by_stream.setdefault(head.stream, []).append(head)
        overlapping = self._overlapping(touching)
        keys = {self._streams[one]: one for one in counts if one in self._streams}
        return {
            key: Tally(
                counts.get(keys.get(key, ""), {}),
                sorted(by_stream.get(key, ()), key=lambda head: head.offset),
                key in overlapping,
            )
            for key in {**keys, **dict.fromkeys(by_stream, "")}
        }

    def _counted(self, *conditions: Query) -> Query:
        lines = {"range": {"lines": {"gt": 0}}}
        query = queries.every([self._search.chosen, lines, *conditions])
        return queries.without(query, [{"term": {"kind": BLOB}}, *self._excluded])

    def _count(
        self,
        since: int | None,
        until: int | None,
        bucket_us: int,
        counts: dict[str, dict[tuple[int, str], int]],
    ) -> set[int]:
        """Count the blocks inside the range; return the edges that blocks lie over."""
        width = min(bucket_us, _WIDEST)
        inside = self._counted(queries.from_on("time_min", since), queries.below("time_max", until))
        sources: list[Mapping[str, Any]] = [
            {"stream": {"terms": {"field": "stream"}}},
            {"first": {"histogram": {"field": "time_min", "interval": width}}},
            {"last": {"histogram": {"field": "time_max", "interval": width}}},
        ]
        edges: set[int] = set()
        for found in chains.composite(self._search, inside, sources, _LINES):
            key = found["key"]
            first, last = int(key["first"]), int(key["last"])
            into = counts.setdefault(key["stream"], {})
            if first != last:
                edges.add(last)
            else:
                self._add(into, key["stream"], first, width, found, inside)
        return edges

    def _add(
        self,
        into: dict[tuple[int, str], int],
        stream: str,
        bucket: int,
        width: int,
        found: Mapping[str, Any],
        inside: Query,
    ) -> None:
        sums = chains.Sums(found["doc_count"], found)
        levels = sums.levels
        if sums.odd:
            conditions = [
                {"term": {"odd": True}},
                inside,
                queries.from_on("time_min", bucket),
                queries.below("time_max", bucket + width),
            ]
            levels |= chains.levels_of(chains.blocks_of(self._search, stream, *conditions))
        rest = sums.number("lines") - sum(levels.values())
        if rest:
            levels = {**levels, "": rest}
        for level, count in levels.items():
            into[bucket, level] = into.get((bucket, level), 0) + count

    def _over_range(
        self, since: int | None, until: int | None, touching: list[Query]
    ) -> Iterable[Head]:
        """Heads of blocks that lie over the edge of the range."""
        over = []
        if since is not None:
            over.append(queries.below("time_min", since))
        if until is not None:
            over.append(queries.from_on("time_max", until))
        return self._heads(queries.every([*touching, queries.either(over)])) if over else ()

    def _over_edges(self, edges: Iterable[int], touching: list[Query]) -> Iterable[Head]:
        """Heads of blocks that lie over one of the edges between buckets."""
        over = [
            queries.every([queries.below("time_min", edge), queries.from_on("time_max", edge)])
            for edge in sorted(edges)
        ]
        return self._heads(queries.every([*touching, queries.either(over)])) if over else ()

    def _heads(self, query: Query) -> Iterable[Head]:
        return self._search.all_heads(self._counted(query), ["stream", "offset"])

    def _overlapping(self, touching: list[Query]) -> set[StreamKey]:
        """Streams that have overlapping blocks in the range."""
        found: set[StreamKey] = set()
        # All blocks of a stream make a chain, not those of a range; those without an event count.
        every = queries.without(self._search.chosen, self._excluded)
        for stream, sums in chains.sums(self._search, every, chains.COUNTERS).items():
            if sums.chained or stream not in self._streams:
                continue
            end = 0
            for head in chains.blocks_of(self._search, stream, self._counted(*touching)):
                if head.offset < end:
                    found.add(self._streams[stream])
                    break
                end = max(end, head.end)
        return found
