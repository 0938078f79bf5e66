"""The reading half. Asks for a refresh where what searches see may be too old; changes nothing."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from loghaul.chunk import StreamKey
from loghaul_ingest.block import BlockKey, Facts, Head
from loghaul_ingest.errors import StoreDamaged, StoreError
from loghaul_ingest.query.proposal import Proposal
from loghaul_ingest.runs import summarise
from loghaul_ingest.stores import totals
from loghaul_ingest.stores.base import RunRow, Stored, StreamRow, Tally
from loghaul_ingest.stores.opensearch import chains, queries
from loghaul_ingest.stores.opensearch.address import Address
from loghaul_ingest.stores.opensearch.client import Client
from loghaul_ingest.stores.opensearch.content import unpack
from loghaul_ingest.stores.opensearch.failures import NO_INDEX, Failed
from loghaul_ingest.stores.opensearch.names import Names, block_id, run_key, stream_id
from loghaul_ingest.stores.opensearch.queries import Query
from loghaul_ingest.stores.opensearch.searches import Hit, Search
from loghaul_ingest.stores.opensearch.searching import Walk, asks_streams, heads_in, of_streams
from loghaul_ingest.stores.opensearch.streams import Row, Streams
from loghaul_ingest.stores.opensearch.tallying import Counting
from loghaul_ingest.stores.opensearch.tombstones import Tombstones
from loghaul_ingest.stores.opensearch.weighing import weigh

_FIRST_LOAD, _LARGEST_LOAD = 4, 64

#: How long a node that went away under a reader is waited for: what a restart takes, on a machine
#: that has other work too.
PATIENCE_SECONDS = 90.0
_PAUSE_SECONDS = 0.25

#: Streams whose bucket is remembered.
_MOST_STREAMS = 100_000

#: Rows of streams kept from one question to the next.
_MOST_KEPT = 20_000


class _Asked(NamedTuple):
    """What was last told of the streams of some runs, of all for None, and of which moment."""

    seen_at: float
    runs: frozenset[str] | None
    rows: list[Row]

    def holds(self, runs: Sequence[str] | None) -> bool:
        """Whether these runs are among them."""
        return self.runs is None or (runs is not None and self.runs.issuperset(runs))


class OpenSearchReader:
    """See `base.Reader`."""

    def __init__(self, address: Address) -> None:
        self._client = Client(address, PATIENCE_SECONDS)
        self._names = Names(address.prefix)
        self._streams = Streams(self._client, self._names)
        self._tombstones = Tombstones(self._client, self._names)
        self._fresh_seconds = address.fresh_seconds
        self._lock = threading.Lock()
        self._seen_at = float("-inf")
        #: Runs by key that were deleted, and when; streams of them that were begun after that.
        self._deleted: Mapping[str, int] = {}
        self._living: frozenset[str] = frozenset()
        self._buckets: OrderedDict[StreamKey, str] = OrderedDict()
        self._asked = _Asked(self._seen_at, frozenset(), [])

    def runs(self) -> Sequence[RunRow]:
        """See `base.Reader`."""
        self._freshen()
        by_run: dict[str, list[StreamRow]] = {}
        for row in self._rows(None):
            by_run.setdefault(row.facts.stream.run, []).append(row)
        rows = [summarise(streams) for streams in by_run.values()]
        return sorted(rows, key=lambda row: (-row.started, row.run))

    def streams(self, run: str) -> Sequence[StreamRow]:
        """See `base.Reader`."""
        self._freshen()
        return sorted(self._rows([run]), key=totals.by_start)

    def facts(self, runs: Iterable[str]) -> Mapping[str, Sequence[Facts]]:
        """See `base.Reader`."""
        self._freshen()
        wanted = list(dict.fromkeys(runs))
        found: dict[str, list[Facts]] = {}
        for row in self._facts(wanted) if wanted else ():
            found.setdefault(row.facts.stream.run, []).append(row.facts)
        return {
            run: sorted(found[run], key=totals.facts_by_start) for run in wanted if run in found
        }

    def heads(self, stream: StreamKey, start: int = 0, end: int | None = None) -> Iterator[Head]:
        """See `base.Reader`."""
        self._freshen()
        if self._is_gone(stream):
            return
        bucket = self._bucket(stream)
        if bucket is None:
            return
        search = Search(self._client, self._names.blocks(bucket), [stream.run])
        for hit in heads_in(search, stream_id(stream), start, end):
            yield hit.head

    def load(self, keys: Sequence[BlockKey]) -> Iterator[Stored]:
        """See `base.Reader`."""
        start, size = 0, _FIRST_LOAD if len(keys) > _LARGEST_LOAD else _LARGEST_LOAD
        while start < len(keys):
            yield from self._load(keys[start : start + size])
            start += size
            size = min(size * 4, _LARGEST_LOAD)

    def candidates(
        self,
        proposal: Proposal,
        runs: Iterable[str] | None = None,
        before: int | None = None,
    ) -> Iterator[Head]:
        """See `base.Reader`."""
        self._freshen()
        wanted = None if runs is None else list(dict.fromkeys(runs))
        if wanted == []:
            return
        chosen: set[str] | None = None
        if asks_streams(proposal):
            query, chosen = of_streams(proposal, [row.facts for row in self._facts(wanted)])
        else:
            query = queries.proposed(proposal)
        index = self._names.blocks()
        search = Search(self._client, index, wanted)
        query = queries.every([query, search.chosen, queries.below("time_min", before)])
        if query == queries.NOTHING:
            return
        walk = Walk(self._client, index, search, queries.without(query, self._gone()))
        for hit in walk.heads(chosen):
            self._note(hit)
            yield hit.head

    def tally(
        self, runs: Iterable[str] | None, since: int | None, until: int | None, bucket_us: int
    ) -> Mapping[StreamKey, Tally]:
        """See `base.Reader`."""
        self._freshen()
        wanted = None if runs is None else list(dict.fromkeys(runs))
        if wanted == []:
            return {}
        streams = {stream_id(row.facts.stream): row.facts.stream for row in self._facts(wanted)}
        search = Search(self._client, self._names.blocks(), wanted)
        return Counting(search, streams, self._gone()).tally(since, until, bucket_us)

    def sizes(self) -> Mapping[str, int]:
        """See `base.Reader`; an index is shared among its runs by their raw bytes."""
        self._freshen()
        runs = {run_key(row.facts.stream.run): row.facts.stream.run for row in self._facts(None)}
        weights = weigh(self._client, f"{self._names.blocks()},{self._names.streams}")
        return {run: weights.get(key, 0) for key, run in runs.items()}

    def close(self) -> None:
        """See `base.Reader`."""
        self._client.close()

    def _freshen(self) -> None:
        """See to it that what is read is not older than it may be."""
        with self._lock:
            if time.monotonic() - self._seen_at < self._fresh_seconds:
                return
            self._refresh()
            self._deleted = self._tombstones.unswept()
            rows = self._streams.of_keys(sorted(self._deleted)) if self._deleted else ()
            self._living = frozenset(
                stream_id(row.facts.stream)
                for row in rows
                if row.facts.started > self._deleted[run_key(row.facts.stream.run)]
            )
            self._seen_at = time.monotonic()

    def _refresh(self) -> None:
        indices = f"{self._names.blocks()},{self._names.streams}"
        try:
            self._client.call(
                "POST", f"/{indices}/_refresh", ignore_unavailable=True, allow_no_indices=True
            )
        except Failed as error:
            if error.status != 403:  # who may only read sees what the refresh interval gives
                raise

    def _gone(self) -> list[Query]:
        if not self._deleted:
            return []
        runs: Query = {"terms": {"run": sorted(self._deleted)}}
        living: Query = {"terms": {"stream": sorted(self._living)}}
        return [queries.without(runs, [living] if self._living else [])]

    def _is_gone(self, stream: StreamKey) -> bool:
        return run_key(stream.run) in self._deleted and stream_id(stream) not in self._living

    def _facts(self, runs: Sequence[str] | None) -> list[Row]:
        """Return what is known of the streams of runs; asked for once while it is fresh."""
        asked = self._asked
        if asked.seen_at == self._seen_at and asked.holds(runs):
            wanted = asked.runs if runs is None else frozenset(runs)
            return [row for row in asked.rows if wanted is None or row.facts.stream.run in wanted]
        seen_at = self._seen_at
        rows = [row for row in self._streams.of_runs(runs) if not self._is_gone(row.facts.stream)]
        for row in rows:
            self._remember(row.facts.stream, row.bucket)
        if len(rows) <= _MOST_KEPT:
            self._asked = _Asked(seen_at, None if runs is None else frozenset(runs), rows)
        return rows

    def _rows(self, runs: Sequence[str] | None) -> list[StreamRow]:
        facts = self._facts(runs)
        if not facts:
            return []
        search = Search(self._client, self._names.blocks(), runs)
        query = queries.without(search.chosen, self._gone())
        found = chains.sums(search, query, chains.TOTALS)
        return [self._row(row.facts, found.get(stream_id(row.facts.stream))) for row in facts]

    def _row(self, facts: Facts, sums: chains.Sums | None) -> StreamRow:
        if sums is None:
            nothing: dict[str, int] = {}
            return totals.row(
                facts, [], lines=0, progress=0, levels=nothing, time_min=None, time_max=None
            )
        stream = stream_id(facts.stream)
        levels = sums.levels
        pieces = [(0, sums.end)] if sums.end else []
        if sums.odd or not sums.chained:
            bucket = self._bucket(facts.stream) or "*"
            search = Search(self._client, self._names.blocks(bucket), [facts.stream.run])
            if sums.odd:
                odd: Query = {"term": {"odd": True}}
                levels |= chains.levels_of(chains.blocks_of(search, stream, odd))
            if not sums.chained:
                pieces = chains.pieces(search, stream)
        return totals.row(
            facts,
            pieces,
            lines=sums.number("lines"),
            progress=sums.number("progress"),
            levels=levels,
            time_min=sums.number("time_min"),
            time_max=sums.number("time_max"),
        )

    def _load(self, keys: Sequence[BlockKey]) -> Iterator[Stored]:
        docs = []
        for key in keys:
            bucket = self._bucket(key.stream)
            if bucket is not None and not self._is_gone(key.stream):
                docs.append(
                    {
                        "_index": self._names.blocks(bucket),
                        "_id": block_id(stream_id(key.stream), key.offset),
                        "routing": run_key(key.stream.run),
                        "stored_fields": ["content"],
                    }
                )
        if not docs:
            return
        for one in self._got(docs):
            if one.get("found"):
                if "fields" not in one:
                    raise StoreDamaged(f"block {one['_id']} of {one['_index']} has lost its bytes")
                yield unpack(one["fields"]["content"][0])

    def _got(self, docs: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
        """Ask for documents until every shard answers: one is missing while its node starts."""
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            reply = self._client.call("POST", "/_mget", {"docs": docs})
            found: Sequence[Mapping[str, Any]] = reply["docs"]
            errors = (one["error"] for one in found if "error" in one)
            error = next((one for one in errors if one.get("type") != NO_INDEX), None)
            if error is None:
                return found
            if time.monotonic() > until:
                raise StoreError(f"OpenSearch cannot read a block: {error.get('reason')}")
            time.sleep(_PAUSE_SECONDS)

    def _bucket(self, stream: StreamKey) -> str | None:
        with self._lock:
            bucket = self._buckets.get(stream)
        if bucket is None:
            row = self._streams.get([stream]).get(stream)
            if row is None:
                return None
            bucket = row.bucket
            self._remember(stream, bucket)
        return bucket

    def _note(self, hit: Hit) -> None:
        self._remember(hit.head.stream, self._names.bucket(hit.home))

    def _remember(self, stream: StreamKey, bucket: str) -> None:
        with self._lock:
            self._buckets[stream] = bucket
            if len(self._buckets) > _MOST_STREAMS:
                self._buckets.popitem(last=False)
