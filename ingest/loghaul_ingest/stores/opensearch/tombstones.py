"""Deleted runs: a tombstone each, against what is still coming of them.

A run is gone for readers as soon as its tombstone stands; its documents follow. A worker that
looked just before may still write a block behind it: so readers leave a deleted run out until its
documents were removed a second time, a while later.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable

from loghaul_ingest.errors import StoreError
from loghaul_ingest.stores.opensearch.client import Client
from loghaul_ingest.stores.opensearch.failures import CONFLICT, Failed
from loghaul_ingest.stores.opensearch.names import Names, run_key

#: After so long no worker can still be writing what it began before it saw the tombstone.
SWEEP_AFTER_SECONDS = 300.0

#: How long `bury` waits for the documents to be removed; OpenSearch goes on alone.
_PATIENCE_SECONDS = 20.0


class Tombstones:
    """Which runs were deleted."""

    def __init__(self, client: Client, names: Names) -> None:
        self._client, self._names = client, names

    def among(self, runs: Collection[str]) -> set[str]:
        """Return those of `runs` that were deleted, as the primaries know now."""
        if not runs:
            return set()
        by_key = {run_key(run): run for run in runs}
        reply = self._client.call(
            "POST",
            f"/{self._names.runs}/_mget",
            {"ids": list(by_key)},
            _source=False,
            preference="_primary",
        )
        for one in reply["docs"]:
            if "error" in one:
                raise StoreError(
                    f"OpenSearch cannot tell whether a run was deleted: {one['error']}"
                )
        return {by_key[one["_id"]] for one in reply["docs"] if one.get("found")}

    def unswept(self) -> list[str]:
        """Return the keys of deleted runs of which documents may still be there."""
        return [key for key, _ in self._unswept(10_000)]

    def bury(self, run: str) -> bool:
        """Write the tombstone of a run; False if it has one."""
        key = run_key(run)
        document = {"run": key, "deleted": int(time.time() * 1000), "swept": False}
        try:
            self._client.call(
                "PUT", f"/{self._names.runs}/_create/{_quoted(key)}", document, refresh=True
            )
        except Failed as error:
            if error.kind == CONFLICT:
                return False
            raise
        return True

    def remove(self, keys: Iterable[str]) -> bool:
        """Remove the documents of runs; False where OpenSearch is still at it."""
        for key in keys:
            try:
                reply = self._client.call(
                    "POST",
                    f"/{self._names.blocks()},{self._names.streams}/_delete_by_query",
                    {"query": {"term": {"run": key}}},
                    routing=key,
                    conflicts="proceed",
                    refresh=True,
                    ignore_unavailable=True,
                    allow_no_indices=True,
                    timeout_seconds=_PATIENCE_SECONDS,
                )
            except Failed as error:
                if error.status:
                    raise
                return False
            if reply.get("failures") or reply.get("version_conflicts"):
                return False
        return True

    def sweep(self) -> None:
        """Remove for good what came of runs that were deleted a while ago."""
        before = (time.time() - SWEEP_AFTER_SECONDS) * 1000
        for key, deleted in self._unswept(100):
            if deleted < before and self.remove([key]):
                self._client.call(
                    "POST",
                    f"/{self._names.runs}/_update/{_quoted(key)}",
                    {"doc": {"swept": True}},
                    refresh=True,
                )

    def _unswept(self, most: int) -> list[tuple[str, int]]:
        reply = self._client.call(
            "POST",
            f"/{self._names.runs}/_search",
            {"size": most, "query": {"term": {"swept": False}}, "sort": [{"deleted": "asc"}]},
            ignore_unavailable=True,
            allow_partial_search_results=False,
        )
        sources = [hit["_source"] for hit in reply["hits"]["hits"]]
        return [(source["run"], source["deleted"]) for source in sources]


def _quoted(key: str) -> str:
    from urllib.parse import quote

    return quote(key, safe="")
