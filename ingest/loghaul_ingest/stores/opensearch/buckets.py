"""Buckets that hold nothing any more: their indices are dropped, and bytes come back at once.

A worker may write into an index in the moment in which it is found empty, and what it wrote, and
was told to be durable, would go with it. Therefore, in this order:

    a document stands for whoever drops this bucket: two at once could drop what is made anew
    writes to the index are refused; what was under way is through when OpenSearch says so
    is it still empty? then the index goes; else writes are let in again

A worker that was refused tries again, finds no index, and makes it. Who dies in between leaves the
document behind, and writes refused: the next sweep, or the next worker that is refused, takes over
and goes on. The bucket of this month is never dropped: it would be made again at once.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from typing import Any

from loghaul_ingest.errors import StoreError
from loghaul_ingest.stores.opensearch.client import Client
from loghaul_ingest.stores.opensearch.failures import CONFLICT, NO_INDEX, Failed
from loghaul_ingest.stores.opensearch.names import Names, bucket_of

#: After so long whoever was dropping a bucket is dead; for he gives up by himself long before.
LEASE_SECONDS, HOLD_SECONDS = 120.0, 30.0

#: Buckets are months: of so many nobody has more.
_MOST = 10_000

#: A request line of OpenSearch has 4,096 bytes: of more buckets than these all are asked for.
_MOST_NAMED = 12


class Buckets:
    """The indices of blocks of a store."""

    def __init__(self, client: Client, names: Names) -> None:
        self._client, self._names = client, names

    def drop_empty(self, among: Collection[str] | None = None) -> set[str]:
        """Drop the indices of those buckets (None: of all) that hold no block.

        Returns the buckets that are gone. What cannot be dropped now, or not with the rights of
        this user, is left to a later call: an empty index does no harm.
        """
        try:
            there, now = self._there(), bucket_of(time.time_ns() // 1000)
            wanted = {one for one in there if one < now and (among is None or one in among)}
            if not wanted:
                return set()
            # A lock that is there was left behind, or is somebody's who will be done in a moment.
            chosen = wanted - self._full(wanted) | self._locked(wanted)
        except StoreError:
            return set()
        return {one for one in chosen if self._drop(one)}

    def take_over(self, indices: Collection[str]) -> None:
        """Go on with those that refuse writes because who was dropping them is dead.

        An index that refuses them for another reason stays as it is: somebody wanted that.
        """
        try:
            for bucket in self._locked({self._names.bucket(index) for index in indices}):
                self._drop(bucket)
        except StoreError:
            return  # the write is tried again, and so is this

    def _there(self) -> set[str]:
        found = self._client.call("GET", f"/{self._names.blocks()}/_alias")
        return {self._names.bucket(index) for index in found}

    def _full(self, buckets: Collection[str]) -> set[str]:
        """Return those that hold a block: whatever was acknowledged is seen."""
        named = buckets if len(buckets) <= _MOST_NAMED else ("*",)
        indices = ",".join(self._names.blocks(bucket) for bucket in named)
        refreshed = self._client.call("POST", f"/{indices}/_refresh")
        if refreshed["_shards"]["failed"]:
            raise StoreError("an index could not be refreshed: what it holds is not known")
        reply = self._client.call(
            "POST",
            f"/{indices}/_search",
            {"size": 0, "aggs": {"indices": {"terms": {"field": "_index", "size": _MOST}}}},
            preference="_primary",
            allow_partial_search_results=False,
        )
        found = reply["aggregations"]["indices"]["buckets"]
        return {self._names.bucket(one["key"]) for one in found}

    def _drop(self, bucket: str) -> bool:
        try:
            if not self._take(bucket):
                return False
            dropped = self._drop_taken(bucket)
            self._client.call("DELETE", self._lock(bucket), refresh=True)
            return dropped
        except StoreError:
            return False  # should writes be refused now, the next sweep lets them in or drops it

    def _drop_taken(self, bucket: str) -> bool:
        index, until = f"/{self._names.blocks(bucket)}", time.monotonic() + HOLD_SECONDS
        try:
            self._client.call("PUT", f"{index}/_block/write")
            if self._full([bucket]):
                self._let_in(index)
                return False
            if time.monotonic() > until:
                raise StoreError("dropping a bucket took so long that others may be at it too")
            self._client.call("DELETE", index)
        except Failed as error:
            if error.kind == NO_INDEX:
                return True
            if error.kind:  # an answer: it may not be dropped, so it has to go on
                self._let_in(index)
            raise
        return True

    def _let_in(self, index: str) -> None:
        self._client.call("PUT", f"{index}/_settings", {"index.blocks.write": None})

    # The lock of a bucket is a document beside the tombstones, which no run's can be: see run_key.

    def _lock(self, bucket: str) -> str:
        return f"/{self._names.runs}/_doc/{_lock_id(bucket)}"

    def _take(self, bucket: str) -> bool:
        """Begin to drop a bucket; False where somebody else does."""
        now = int(time.time() * 1000)
        document = {"run": _lock_id(bucket), "deleted": now, "swept": True}
        place: Mapping[str, Any] = {"op_type": "create"}
        for _ in range(2):
            try:
                self._client.call("PUT", self._lock(bucket), document, refresh=True, **place)
                return True
            except Failed as error:
                if error.kind != CONFLICT:
                    raise
            found = self._client.call("GET", self._lock(bucket), preference="_primary")
            if now - found["_source"]["deleted"] < LEASE_SECONDS * 1000:
                return False
            place = {"if_seq_no": found["_seq_no"], "if_primary_term": found["_primary_term"]}
        return False

    def _locked(self, buckets: Collection[str]) -> set[str]:
        ids = {_lock_id(bucket): bucket for bucket in buckets}
        path = f"/{self._names.runs}/_mget"
        reply = self._client.call("POST", path, {"ids": list(ids)}, preference="_primary")
        return {ids[one["_id"]] for one in reply["docs"] if one.get("found")}


def _lock_id(bucket: str) -> str:
    return f"~drop-{bucket}"
