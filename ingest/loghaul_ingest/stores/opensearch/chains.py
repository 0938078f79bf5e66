"""What is stored of streams, from aggregations; exact where they cannot tell.

Blocks without hole and overlap are a chain: each begins where another ends, the first at 0. That
can be seen from sums. Each block carries `link`, the difference of two random numbers that stand
for its end and its offset; in a chain they cancel out, but for those of the last end and of 0, and
the lengths add up to that end. What does not add up so is read, block by block.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loghaul_ingest.block import Extent, Head
from loghaul_ingest.stores import totals
from loghaul_ingest.stores.opensearch.mapping import LEVELS
from loghaul_ingest.stores.opensearch.names import number_of
from loghaul_ingest.stores.opensearch.queries import Query, every
from loghaul_ingest.stores.opensearch.searches import Search

#: Streams per page of an aggregation: pages times sums must stay below `search.max_buckets`.
PAGE = 1000

COUNTERS: Mapping[str, Any] = {
    "end": {"max": {"field": "end"}},
    "length": {"sum": {"field": "length"}},
    "link": {"sum": {"field": "link"}},
}
_LEVEL_SUMS = {name: {"sum": {"field": f"levels.{name}"}} for name in LEVELS}
TOTALS: Mapping[str, Any] = {
    **COUNTERS,
    "lines": {"sum": {"field": "lines"}},
    "progress": {"sum": {"field": "progress"}},
    "time_min": {"min": {"field": "time_min"}},
    "time_max": {"max": {"field": "time_max"}},
    "odd": {"filter": {"term": {"odd": True}}},
    **_LEVEL_SUMS,
}


@dataclass(frozen=True)
class Sums:
    """What an aggregation says of the blocks of a stream."""

    blocks: int
    values: Mapping[str, Any]

    def number(self, name: str) -> int:
        """Return one of the sums."""
        return int(self.values[name]["value"] or 0)

    @property
    def end(self) -> int:
        """The greatest end of a block."""
        return self.number("end")

    @property
    def chained(self) -> bool:
        """Whether the blocks hold [0, end) without hole and overlap."""
        whole = number_of(self.end) - number_of(0)
        return self.number("length") == self.end and self.number("link") == whole

    @property
    def levels(self) -> dict[str, int]:
        """Events per level, of those that have a field."""
        found = {name: self.number(name) for name in LEVELS}
        return {name: count for name, count in found.items() if count}

    @property
    def odd(self) -> bool:
        """Whether there are levels without a field."""
        return bool(self.values["odd"]["doc_count"])


def sums(search: Search, query: Query, aggregations: Mapping[str, Any]) -> dict[str, Sums]:
    """Return the sums of every stream that has blocks in `query`, by its id."""
    sources = [{"stream": {"terms": {"field": "stream"}}}]
    return {
        bucket["key"]["stream"]: Sums(bucket["doc_count"], bucket)
        for bucket in composite(search, query, sources, aggregations)
    }


def composite(
    search: Search,
    query: Query,
    sources: Sequence[Mapping[str, Any]],
    aggregations: Mapping[str, Any],
    size: int = PAGE,
) -> Iterator[Mapping[str, Any]]:
    """Yield the buckets of a composite aggregation, page by page."""
    wanted: dict[str, Any] = {"size": size, "sources": list(sources)}
    while True:
        body = {
            "size": 0,
            "track_total_hits": False,
            "query": query,
            "aggs": {"found": {"composite": wanted, "aggs": dict(aggregations)}},
        }
        reply = search.ask(body).get("aggregations", {}).get("found", {})
        buckets = reply.get("buckets", ())
        yield from buckets
        # A page that is not full is the last one, though it has a key as well.
        if len(buckets) < size or "after_key" not in reply:
            return
        wanted["after"] = reply["after_key"]


def extent(search: Search, stream: str, found: Sums | None) -> Extent:
    """Return the extent of a stream of which an aggregation said so much."""
    if found is None:
        return Extent()
    if found.chained:
        return Extent(found.end)
    return totals.extent(pieces(search, stream))


def pieces(search: Search, stream: str) -> list[totals.Span]:
    """Return what of a stream is stored, as disjoint spans, read from its blocks."""
    return totals.covered((head.offset, head.length) for head in blocks_of(search, stream))


def blocks_of(search: Search, stream: str, *conditions: Query) -> Iterator[Head]:
    """Yield the heads of a stream's blocks by offset."""
    query = every([{"term": {"stream": stream}}, *conditions])
    yield from search.all_heads(query, ["offset"])


def levels_of(heads: Iterable[Head]) -> dict[str, int]:
    """Return the events per level of blocks, of levels without a field."""
    found: dict[str, int] = {}
    for head in heads:
        for level, count in head.levels.items():
            if level not in LEVELS:
                found[level] = found.get(level, 0) + count
    return found
