"""Deleted runs: a tombstone each, against what is still coming of them.

A run is gone for readers as soon as its tombstone stands; its documents follow. A worker that
looked just before may still write a block behind it: so readers leave what was deleted out until
its documents were removed a second time, a while later. Of a run that lives again, only streams
whose writer started after its tombstone's time are left, and only these are shown.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from loghaul_ingest.errors import StoreError
from loghaul_ingest.stores.opensearch.client import Client
from loghaul_ingest.stores.opensearch.failures import CONFLICT, Failed
from loghaul_ingest.stores.opensearch.names import Names, run_key
from loghaul_ingest.stores.opensearch.streams import Streams

#: After so long no worker can still be writing what it began before it saw the tombstone.
SWEEP_AFTER_SECONDS = 300.0

#: How long `bury` waits for the documents to be removed; OpenSearch goes on alone.
_PATIENCE_SECONDS = 20.0

#: Streams looked at at once when a run is swept.
_PAGE = 1000


class _Tombstone(NamedTuple):
    key: str
    deleted_us: int
    place: Mapping[str, Any]


class Tombstones:
    """Which runs were deleted."""

    def __init__(self, client: Client, names: Names) -> None:
        self._client, self._names = client, names

    def among(self, runs: Collection[str]) -> dict[str, int]:
        """Return those of `runs` that were deleted, and when, as the primaries know now."""
        if not runs:
            return {}
        by_key = {run_key(run): run for run in runs}
        reply = self._client.call(
            "POST",
            f"/{self._names.runs}/_mget",
            {"ids": list(by_key)},
            preference="_primary",
        )
        for one in reply["docs"]:
            if "error" in one:
                raise StoreError(
                    f"OpenSearch cannot tell whether a run was deleted: {one['error']}"
                )
        return {
            by_key[one["_id"]]: _time_us(one["_source"])
            for one in reply["docs"]
            if one.get("found")
        }

    def unswept(self) -> dict[str, int]:
        """Return the keys of deleted runs of which documents may still be there, and when."""
        return {one.key: one.deleted_us for one in self._unswept(10_000)}

    def bury(self, run: str) -> None:
        """Write the tombstone of a run, over the one of an earlier deletion."""
        key = run_key(run)
        document = {"run": key, "deleted": int(time.time() * 1000), "swept": False}
        self._client.call("PUT", f"/{self._names.runs}/_doc/{_quoted(key)}", document, refresh=True)

    def remove(self, key: str, streams: Sequence[str] | None = None) -> bool:
        """Remove the documents of a run, of these streams or all; False where some stay, because
        OpenSearch is still at it, or refuses writes to one of the indices just now.
        """
        query: dict[str, Any] = {"term": {"run": key}}
        if streams is not None:
            query = {"bool": {"filter": [query, {"terms": {"stream": list(streams)}}]}}
        try:
            reply = self._client.call(
                "POST",
                f"/{self._names.blocks()},{self._names.streams}/_delete_by_query",
                {"query": query},
                routing=key,
                conflicts="proceed",
                refresh=True,
                ignore_unavailable=True,
                allow_no_indices=True,
                timeout_seconds=_PATIENCE_SECONDS,
            )
        except Failed as error:
            if error.kind:
                raise
            return False  # no answer, or one that tells of documents
        return not (reply.get("failures") or reply.get("version_conflicts"))

    def sweep(self) -> None:
        """Remove for good what came of runs that were deleted a while ago, and have their bytes
        given back.
        """
        before = (time.time() - SWEEP_AFTER_SECONDS) * 1_000_000
        swept = False
        for one in self._unswept(100):
            if one.deleted_us < before and self._sweep(one.key, one.deleted_us):
                swept = True
                try:
                    self._client.call(
                        "POST",
                        f"/{self._names.runs}/_update/{_quoted(one.key)}",
                        {"doc": {"swept": True}},
                        refresh=True,
                        **one.place,
                    )
                except Failed as error:
                    if error.kind != CONFLICT:  # deleted once more meanwhile
                        raise

        if swept:
            self._expunge()

    def _expunge(self) -> None:
        """Have OpenSearch merge where more than a tenth is deleted; it goes on alone. For half a
        minute after a deletion that does nothing: documents are kept for replicas that are away.
        """
        try:
            self._client.call(
                "POST",
                f"/{self._names.blocks()}/_forcemerge",
                ignore_unavailable=True,
                allow_no_indices=True,
                only_expunge_deletes=True,
                wait_for_completion=False,
            )
        except StoreError:
            pass  # it merges by itself, later

    def _sweep(self, key: str, deleted_us: int) -> bool:
        """Remove the streams of a run that its deletion holds for, page by page.

        A stream's document is made before its first block: what has blocks and then no document
        is what somebody wrote who had not seen the deletion.
        """
        self._client.call(
            "POST",
            f"/{self._names.blocks()},{self._names.streams}/_refresh",
            ignore_unavailable=True,
            allow_no_indices=True,
        )
        after: dict[str, Any] = {}
        while True:
            found, after = self._streams_of(key, after)
            living = self._living(key, found, deleted_us)
            dead = [stream for stream in found if stream not in living]
            if dead and not self.remove(key, dead):
                return False
            if not after:
                return True

    def _streams_of(self, key: str, after: dict[str, Any]) -> tuple[list[str], dict[str, Any]]:
        """Return a page of streams with any document, and where the next one begins."""
        pages: dict[str, Any] = {"size": _PAGE, "sources": [{"id": {"terms": {"field": "stream"}}}]}
        if after:
            pages["after"] = after
        reply = self._client.call(
            "POST",
            f"/{self._names.blocks()},{self._names.streams}/_search",
            {
                "size": 0,
                "query": {"term": {"run": key}},
                "aggs": {"streams": {"composite": pages}},
            },
            routing=key,
            preference="_primary",
            ignore_unavailable=True,
            allow_no_indices=True,
            allow_partial_search_results=False,
        )
        page = reply.get("aggregations", {}).get("streams", {"buckets": []})
        found = [bucket["key"]["id"] for bucket in page["buckets"]]
        return found, page.get("after_key", {}) if len(found) == _PAGE else {}

    def _living(self, key: str, streams: Sequence[str], deleted_us: int) -> set[str]:
        rows = Streams(self._client, self._names).by_id(key, streams)
        return {one for one, row in rows.items() if row.facts.started > deleted_us}

    def _unswept(self, most: int) -> list[_Tombstone]:
        reply = self._client.call(
            "POST",
            f"/{self._names.runs}/_search",
            {
                "size": most,
                "query": {"term": {"swept": False}},
                "sort": [{"deleted": "asc"}],
                "seq_no_primary_term": True,
            },
            ignore_unavailable=True,
            allow_partial_search_results=False,
        )
        return [
            _Tombstone(
                hit["_source"]["run"],
                _time_us(hit["_source"]),
                {"if_seq_no": hit["_seq_no"], "if_primary_term": hit["_primary_term"]},
            )
            for hit in reply["hits"]["hits"]
        ]


def _time_us(source: Mapping[str, Any]) -> int:
    """Return the end of the millisecond in which a run was deleted."""
    return int(source["deleted"]) * 1000 + 999


def _quoted(key: str) -> str:
    from urllib.parse import quote

    return quote(key, safe="")
