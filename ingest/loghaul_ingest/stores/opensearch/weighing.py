"""What runs weigh: the bytes of each index's segments, shared among the runs in it.

Segments are asked for and not `_stats/store`, which is stale after merges. Documents that were
deleted lie in them until they are merged: a segment counts by the share of its documents that live.
So what deleting a run gives back is gone from these numbers at once, and whoever frees so many
bytes does not free them again before OpenSearch has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from loghaul_ingest.stores.opensearch.client import Client
from loghaul_ingest.stores.opensearch.searches import Search

#: Runs per page.
_PAGE = 1000

#: What a document weighs beside the bytes of its block: ids, words, the lists that they stand in.
_DOCUMENT_BYTES = 256

_SEGMENTS = "indices.*.shards.*.segments.*."
_FILTER = ",".join(
    _SEGMENTS + name for name in ("num_docs", "deleted_docs", "size_in_bytes", "search")
)


def weigh(client: Client, indices: str) -> Mapping[str, int]:
    """Return the bytes on disk, replicas too, of each run that has documents, by the runs' keys."""
    reply = client.call(
        "GET",
        f"/{indices}/_segments",
        ignore_unavailable=True,
        allow_no_indices=True,
        filter_path=_FILTER,
    )
    found: Counter[str] = Counter()
    for index, segments in (reply or {}).get("indices", {}).items():
        weights = dict(_weights(client, index))
        whole = sum(weights.values())
        for key, weight in weights.items():
            found[key] += round(_living_bytes(segments) * weight / whole)
    return found


def _living_bytes(index: Mapping[str, Any]) -> float:
    copies = (copy for shard in index["shards"].values() for copy in shard)
    segments = (one for copy in copies for one in copy.get("segments", {}).values())
    # What a search does not see any more is about to be removed.
    return sum(_share(one) * int(one["size_in_bytes"]) for one in segments if one["search"])


def _share(segment: Mapping[str, Any]) -> float:
    living, every = int(segment["num_docs"]), segment["num_docs"] + segment["deleted_docs"]
    return living / every if every else 0.0


def _weights(client: Client, index: str) -> Iterator[tuple[str, float]]:
    """Yield what the documents of each run weigh, beside each other."""
    pages: dict[str, Any] = {"size": _PAGE, "sources": [{"run": {"terms": {"field": "run"}}}]}
    while True:
        length = {"length": {"sum": {"field": "length"}}}
        body = {"size": 0, "aggs": {"runs": {"composite": pages, "aggs": length}}}
        page = Search(client, index).ask(body).get("aggregations", {}).get("runs", {"buckets": []})
        for bucket in page["buckets"]:
            documents = bucket["doc_count"] * _DOCUMENT_BYTES
            yield bucket["key"]["run"], (bucket["length"]["value"] or 0) + documents
        if len(page["buckets"]) < _PAGE:
            return
        pages["after"] = page["after_key"]
