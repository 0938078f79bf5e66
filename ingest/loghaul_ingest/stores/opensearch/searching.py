"""Candidates: blocks that a proposal could hold in, newest first, a page at a time.

The first page is one request: most searches need no more. A walk that goes on reads from a point
in time that OpenSearch keeps for it: from the beginning, for blocks that were merged in between may
stand before the page's end, leaving out what the page gave. Blocks that are merged later are given
as they were, and whoever loads them is told that they vanished. Where the point is lost (its node
died, its time ran out, there are too many) the walk goes on behind the last key it gave.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from loghaul_ingest.block import Facts, Head
from loghaul_ingest.query.proposal import (
    NOTHING,
    Both,
    Either,
    OfStream,
    Proposal,
    bind,
)
from loghaul_ingest.stores.opensearch import queries
from loghaul_ingest.stores.opensearch.client import Client
from loghaul_ingest.stores.opensearch.failures import Failed
from loghaul_ingest.stores.opensearch.names import stream_id
from loghaul_ingest.stores.opensearch.queries import Query
from loghaul_ingest.stores.opensearch.searches import HEADS, Hit, Search, hits_of

#: As many as a page of hits has lines: what is rare is then found by one request.
FIRST_PAGE, LARGEST_PAGE = 128, 2048

#: By greatest time; stream and offset make it unique.
ORDER = [{"time_max": "desc"}, {"stream": "asc"}, {"offset": "desc"}]

#: Beyond so many streams a query does not name them: blocks of others are dropped here.
_MOST_NAMED = 10_000

#: How long OpenSearch keeps a point for a caller that is away.
_KEEP = "2m"


def asks_streams(proposal: Proposal) -> bool:
    """Whether a proposal asks for facts of streams."""
    if isinstance(proposal, (Both, Either)):
        return any(asks_streams(part) for part in proposal.parts)
    return isinstance(proposal, OfStream)


def of_streams(proposal: Proposal, facts: Sequence[Facts]) -> tuple[Query, set[str] | None]:
    """Return the query of a proposal over these streams, and the ids of those that may match.

    The set is None where the query itself tells.
    """
    groups: dict[Proposal, list[str]] = {}
    for one in facts:
        rest = bind(proposal, one)
        if rest != NOTHING:
            groups.setdefault(rest, []).append(stream_id(one.stream))
    chosen = {stream for streams in groups.values() for stream in streams}
    named = len(chosen) <= _MOST_NAMED
    parts = [
        queries.every([queries.proposed(rest), {"terms": {"stream": streams}}])
        if named
        else queries.proposed(rest)
        for rest, streams in groups.items()
    ]
    return queries.either(parts), None if named else chosen


class Walk:
    """One pass over the blocks of a query."""

    def __init__(self, client: Client, index: str, search: Search, query: Query) -> None:
        self._client, self._index, self._search = client, index, search
        self._query = query
        self._after: list[Any] | None = None
        self._point: str | None = None

    def heads(self, chosen: set[str] | None = None) -> Iterator[Hit]:
        """Yield the hits, newest first; of the streams in `chosen` alone, where it is given."""
        for hit in self._hits():
            if chosen is None or stream_id(hit.head.stream) in chosen:
                yield hit

    def _hits(self) -> Iterator[Hit]:
        first = hits_of(self._search.ask(self._body(FIRST_PAGE)))
        yield from first
        if len(first) < FIRST_PAGE:
            return
        size = FIRST_PAGE * 5
        self._open()
        try:
            while True:
                hits = self._page(size)
                yield from _not_among(hits, first) if self._after is None else hits
                if len(hits) < size:
                    return
                self._after = hits[-1].place
                size = min(size * 4, LARGEST_PAGE)
        finally:
            self._close()

    def _body(self, size: int) -> dict[str, Any]:
        body: dict[str, Any] = {**HEADS, "size": size, "query": self._query, "sort": ORDER}
        if self._after is not None:
            body["search_after"] = self._after
        return body

    def _page(self, size: int) -> list[Hit]:
        body = self._body(size)
        if self._point is not None:
            try:
                point = {"id": self._point, "keep_alive": _KEEP}
                return hits_of(
                    self._client.call(
                        "POST",
                        "/_search",
                        {**body, "pit": point},
                        # Of a point that one of several nodes lost, the rest is no page.
                        allow_partial_search_results=False,
                    )
                )
            except Failed as error:
                if error.status not in (400, 404):
                    raise
                self._point = None
                self._open()
                if self._point is not None:
                    return self._page(size)
        return hits_of(self._search.ask(body))

    def _open(self) -> None:
        try:
            reply: Mapping[str, Any] = self._client.call(
                "POST",
                f"/{self._index}/_search/point_in_time",
                patient=False,
                keep_alive=_KEEP,
                **self._search.parameters,
            )
            self._point = str(reply["pit_id"])
        except Failed as error:
            if error.status in (401, 403):
                raise
            self._point = None  # none to be had: no index yet, too many points, nobody there

    def _close(self) -> None:
        point, self._point = self._point, None
        if point is None:
            return
        try:
            self._client.call(
                "DELETE", "/_search/point_in_time", {"pit_id": [point]}, patient=False
            )
        except Exception:  # noqa: BLE001 - it ends by itself; a walk given up must not raise
            pass


def _not_among(hits: Sequence[Hit], first: Sequence[Hit]) -> Iterator[Hit]:
    """Yield what a full first page did not give of a later one from the beginning.

    What stands before the page's end now is a merged block that holds one of those given, or else
    it is new, and a walk need not give what is newer than itself.
    """
    given: dict[str, list[Head]] = {}
    for hit in first:
        given.setdefault(stream_id(hit.head.stream), []).append(hit.head)
    for hit in hits:
        heads = given.get(stream_id(hit.head.stream), ())
        if hit.head in heads:
            continue
        holds_one = any(hit.head.offset < head.end and head.offset < hit.head.end for head in heads)
        if holds_one or _place(hit) > _place(first[-1]):
            yield hit


def _place(hit: Hit) -> tuple[int, str, int]:
    """Where a hit stands in ORDER."""
    time_max, stream, offset = hit.place
    return (-time_max, stream, -offset)


def heads_in(
    search: Search, stream: str, start: int, end: int | None, size: int = 512
) -> Iterator[Hit]:
    """Yield the blocks of a stream that hold a byte of [start, end), by offset.

    Without a snapshot: a block that was merged with its successors begins where the walk has been
    and ends further, so each page asks for those too.
    """
    last, given = -1, max(start, 0)
    of_stream: Query = {"term": {"stream": stream}}
    while True:
        behind = queries.either(
            [
                {"range": {"offset": {"gt": last}}},
                {"range": {"end": {"gt": given}}},
            ]
        )
        inside = [{"range": {"end": {"gt": start}}}, queries.below("offset", end)]
        query = queries.every([of_stream, *inside, behind])
        hits = hits_of(search.ask({**HEADS, "size": size, "query": query, "sort": ["offset"]}))
        for hit in hits:
            yield hit
            given = max(given, hit.head.end)
        if len(hits) < size:
            return
        last = max(last, hits[-1].head.offset)


__all__ = ["Head", "Walk", "asks_streams", "heads_in", "of_streams"]
