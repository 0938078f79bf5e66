"""Searching blocks: where to look, how to page, and hits as heads.

A search names the runs it looks into where it can: then it asks one shard of each index. Pages go
by sort keys of our own that are unique, for OpenSearch adds none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from loghaul_ingest.block import Head
from loghaul_ingest.stores.opensearch.client import Client
from loghaul_ingest.stores.opensearch.content import decode, unpack_head
from loghaul_ingest.stores.opensearch.names import run_key
from loghaul_ingest.stores.opensearch.queries import EVERY, Query

#: Heads read at once where all are wanted.
PAGE = 2000

#: A request line of OpenSearch has 4,096 bytes; more routing than this is left out.
_MOST_ROUTING = 2000

#: No bytes and no source: heads come from doc values.
HEADS: Mapping[str, Any] = {
    "_source": False,
    "stored_fields": "_none_",
    "docvalue_fields": ["head"],
    "track_total_hits": False,
}


class Hit(NamedTuple):
    """A block found: its head, its index (`home`), and where a search goes on behind it."""

    head: Head
    home: str
    place: list[Any]


class Search:
    """Searches of one store in some of its indices and, where given, some runs alone.

    primaries    ask primaries only: they have whatever was acknowledged
    """

    def __init__(
        self,
        client: Client,
        index: str,
        runs: Iterable[str] | None = None,
        *,
        primaries: bool = False,
    ) -> None:
        self._client, self._index = client, index
        self.parameters: dict[str, Any] = {}
        self.runs = None if runs is None else sorted({run_key(run) for run in runs})
        if self.runs is not None:
            routing = ",".join(self.runs)
            if routing and len(routing) <= _MOST_ROUTING:
                self.parameters["routing"] = routing
        if primaries:
            self.parameters["preference"] = "_primary"

    @property
    def chosen(self) -> Query:
        """The condition that a block is of one of the runs."""
        return EVERY if self.runs is None else {"terms": {"run": self.runs}}

    def ask(self, body: Mapping[str, Any]) -> Any:
        """Search once."""
        return self._client.call(
            "POST",
            f"/{self._index}/_search",
            body,
            ignore_unavailable=True,
            allow_no_indices=True,
            allow_partial_search_results=False,
            **self.parameters,
        )

    def all_heads(self, query: Query, order: Sequence[Any], size: int = PAGE) -> Iterator[Head]:
        """Yield every head in an order that ends in unique keys; no snapshot."""
        for hits in self.pages(query, order, size):
            for hit in hits:
                yield hit.head

    def pages(self, query: Query, order: Sequence[Any], size: int = PAGE) -> Iterator[list[Hit]]:
        """Yield hits page by page."""
        after: list[Any] | None = None
        while True:
            body = {**HEADS, "size": size, "query": query, "sort": list(order)}
            if after is not None:
                body["search_after"] = after
            hits = hits_of(self.ask(body))
            if hits:
                yield hits
            if len(hits) < size:
                return
            after = hits[-1].place


def hits_of(reply: Mapping[str, Any]) -> list[Hit]:
    """Return the hits of a reply to a search of HEADS."""
    return [
        Hit(unpack_head(decode(hit["fields"]["head"][0])), hit["_index"], hit["sort"])
        for hit in reply["hits"]["hits"]
    ]
