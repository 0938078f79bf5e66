"""The index of streams: facts of each, and the bucket that its blocks lie in.

A document is made before the first block of its stream, with a bucket that never changes: so every
worker puts the blocks of a stream into the same index, whatever it was told of the writer's start,
and a stream without document has no blocks. Facts are joined by compare and set.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from loghaul.chunk import End, Gap, StreamKey
from loghaul_ingest.block import Facts
from loghaul_ingest.errors import StoreDamaged, StoreError
from loghaul_ingest.stores import totals
from loghaul_ingest.stores.opensearch import bulk
from loghaul_ingest.stores.opensearch.client import Client
from loghaul_ingest.stores.opensearch.content import from_json, to_json
from loghaul_ingest.stores.opensearch.names import Names, bucket_of, run_key, stream_id

#: Facts read at once.
PAGE = 2000

#: So often two workers may change the same facts at once before it is an error to try again later.
_ROUNDS = 10


class Row(NamedTuple):
    """A document of a stream; `place` is what compare and set compares."""

    facts: Facts
    bucket: str
    place: Mapping[str, int]


class Streams:
    """Documents of streams."""

    def __init__(self, client: Client, names: Names) -> None:
        self._client, self._names = client, names

    def get(self, keys: Iterable[StreamKey]) -> dict[StreamKey, Row]:
        """Return the documents of streams, as the primaries know them now."""
        by_id = {stream_id(key): key for key in keys}
        found: dict[StreamKey, Row] = {}
        ids = list(by_id)
        for start in range(0, len(ids), PAGE):
            docs = [
                {"_id": one, "routing": run_key(by_id[one].run)}
                for one in ids[start : start + PAGE]
            ]
            for reply in self._mget(docs):
                if reply.get("found"):
                    place = {
                        "if_seq_no": reply["_seq_no"],
                        "if_primary_term": reply["_primary_term"],
                    }
                    row = _row(reply["_source"], place)
                    found[by_id[reply["_id"]]] = row
        return found

    def by_id(self, run: str, streams: Sequence[str]) -> dict[str, Row]:
        """Return documents by their streams' ids; `run` is the key of their run. As `get`."""
        docs = [{"_id": one, "routing": run} for one in streams]
        replies = self._mget(docs) if docs else ()
        return {one["_id"]: _row(one["_source"], {}) for one in replies if one.get("found")}

    def put(
        self, wanted: Collection[Facts], known: Mapping[StreamKey, Row]
    ) -> dict[StreamKey, str]:
        """Join facts with what is stored of their streams; return the bucket of each stream.

        `known` is what `get` said of them.
        """
        waiting: dict[StreamKey, Facts] = {}
        for facts in wanted:
            waiting[facts.stream] = totals.joined(waiting.get(facts.stream), facts)
        buckets: dict[StreamKey, str] = {}
        for _ in range(_ROUNDS):
            lost = self._try(waiting, known, buckets)
            waiting = {key: waiting[key] for key in lost}
            if not waiting:
                return buckets
            known = self.get(waiting)
        raise StoreError("the facts of a stream are being changed by others: trying again")

    def of_runs(self, runs: Sequence[str] | None) -> Iterator[Row]:
        """Yield the documents of runs, of all for None, as searches see them."""
        return self.of_keys(None if runs is None else sorted({run_key(run) for run in runs}))

    def of_keys(self, keys: Sequence[str] | None) -> Iterator[Row]:
        """Yield the documents of runs by the runs' keys; as `of_runs`."""
        body: dict[str, Any] = {
            "size": PAGE,
            "track_total_hits": False,
            "query": {"match_all": {}} if keys is None else {"terms": {"run": keys}},
            "sort": ["stream"],
        }
        routing = ",".join(keys or ())
        more: dict[str, Any] = {"routing": routing} if routing and len(routing) < PAGE else {}
        while True:
            hits = self._client.call(
                "POST",
                f"/{self._names.streams}/_search",
                body,
                ignore_unavailable=True,
                allow_partial_search_results=False,
                **more,
            )["hits"]["hits"]
            for hit in hits:
                yield _row(hit["_source"], {})
            if len(hits) < PAGE:
                return
            body["search_after"] = hits[-1]["sort"]

    def _mget(self, docs: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
        path = f"/{self._names.streams}/_mget"
        replies: Sequence[Mapping[str, Any]] = self._client.call(
            "POST", path, {"docs": docs}, preference="_primary"
        )["docs"]
        for reply in replies:
            if "error" in reply and reply["error"].get("type") != "index_not_found_exception":
                raise StoreError(f"OpenSearch cannot read the facts of a stream: {reply['error']}")
        return replies

    def _try(
        self,
        waiting: Mapping[StreamKey, Facts],
        known: Mapping[StreamKey, Row],
        buckets: dict[StreamKey, str],
    ) -> list[StreamKey]:
        """Write facts once; return the streams whose document somebody else changed meanwhile."""
        items = []
        for key, facts in waiting.items():
            row = known.get(key)
            bucket = row.bucket if row else bucket_of(facts.started)
            buckets[key] = bucket
            joined = totals.joined(row.facts if row else None, facts)
            if row is None or joined != row.facts:
                items.append(self._item(joined, bucket, row))
        outcome = bulk.Outcome()
        for part in bulk.parts(items):
            outcome.join(bulk.send(self._client, part))
        outcome.check()
        return list(outcome.stood)

    def _item(self, facts: Facts, bucket: str, row: Row | None) -> bulk.Item:
        key, index = facts.stream, self._names.streams
        place = {"_index": index, "_id": stream_id(key), "routing": run_key(key.run)}
        line = {"index": {**place, **row.place}} if row else {"create": place}
        source = {
            "run": run_key(key.run),
            "stream": stream_id(key),
            "bucket": bucket,
            "facts": b64encode(_pack(facts)).decode("ascii"),
        }
        return bulk.Item(key, index, orjson.dumps(line) + b"\n" + orjson.dumps(source) + b"\n")


def _pack(facts: Facts) -> bytes:
    return to_json(
        {
            "key": list(facts.stream),
            "kind": facts.kind,
            "started": facts.started,
            "common": dict(facts.common),
            "end": list(facts.end) if facts.end else None,
            "gaps": [list(gap) for gap in facts.gaps],
        }
    )


def _row(source: Mapping[str, Any], place: Mapping[str, int]) -> Row:
    try:
        found = from_json(b64decode(source["facts"]))
        facts = Facts(
            StreamKey(*found["key"]),
            found["kind"],
            found["started"],
            found["common"],
            End(*found["end"]) if found["end"] else None,
            tuple(Gap(*gap) for gap in found["gaps"]),
        )
    except (KeyError, TypeError, ValueError, json.JSONDecodeError) as error:
        raise StoreDamaged(f"the facts of stream {source.get('stream')} are damaged") from error
    return Row(facts, source["bucket"], place)
