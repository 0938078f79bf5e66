"""The writing half: the event loop goes on while threads build bodies and wait for answers.

Requests go through the driver's blocking client in threads of our own: bodies of megabytes are
built and sent without holding up the loop whose heartbeats keep partitions (the asynchronous
client copies such a body on the loop, and warns of it), and a writer serves whatever loop calls.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from loghaul.chunk import StreamKey
from loghaul_ingest.block import Block, BlockKey, Extent, Facts, Head
from loghaul_ingest.errors import StoreError
from loghaul_ingest.stores import totals
from loghaul_ingest.stores.base import Batch
from loghaul_ingest.stores.opensearch import bulk, chains, setup
from loghaul_ingest.stores.opensearch.address import Address
from loghaul_ingest.stores.opensearch.buckets import Buckets
from loghaul_ingest.stores.opensearch.client import Client
from loghaul_ingest.stores.opensearch.compacting import Compactor
from loghaul_ingest.stores.opensearch.documents import action, document
from loghaul_ingest.stores.opensearch.names import Names, run_key, stream_id
from loghaul_ingest.stores.opensearch.searches import Search
from loghaul_ingest.stores.opensearch.streams import Row, Streams
from loghaul_ingest.stores.opensearch.tombstones import Tombstones
from loghaul_ingest.stores.starts import Starts

#: Bulk requests under way at once: while OpenSearch indexes one the next is built and sent.
IN_FLIGHT = 2
#: Raw bytes of blocks per bulk request.
SHARE_BYTES = 1536 * 1024

#: So often an index may be dropped under a write before it is an error to try again later.
_ROUNDS = 3

#: Streams whose bucket is remembered.
_MOST_STREAMS = 100_000

_T = TypeVar("_T")


class OpenSearchWriter:
    """See `base.Writer`. Any number of them may write one store, from any machine."""

    def __init__(self, address: Address) -> None:
        self._client = Client(address)
        self._names = Names(address.prefix)
        self._streams = Streams(self._client, self._names)
        self._tombstones = Tombstones(self._client, self._names)
        self._indices = Buckets(self._client, self._names)
        self._buckets: OrderedDict[StreamKey, str] = OrderedDict()
        self._made: set[str] = set()
        self._starts = Starts(_MOST_STREAMS)
        self._tails: OrderedDict[StreamKey, tuple[int, bool]] = OrderedDict()
        #: Of the batch that failed last: the blocks that are written, and whether they stood there.
        self._done: dict[BlockKey, tuple[Block, bool]] = {}
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._closed = False
        try:
            self.warnings = setup.ready(self._client, self._names)
            self._tombstones.sweep()
            self._indices.drop_empty()
        except BaseException:
            self._client.close()
            raise
        self._work = ThreadPoolExecutor(2, thread_name_prefix="loghaul-store")
        self._bulks = ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="loghaul-bulk")

    async def extents(self, streams: Mapping[StreamKey, int]) -> Mapping[StreamKey, Extent | None]:
        """See `base.Writer`."""
        self._starts.learn(streams)
        return await self._do(lambda: self._extents(list(streams)))

    async def write(self, batch: Batch) -> Sequence[BlockKey]:
        """See `base.Writer`. What an error leaves unwritten may be a part: the batch comes again,
        and what was written is told as standing there.
        """
        self._starts.learn({facts.stream: facts.started for facts in batch.facts})
        return await self._do(lambda: self._write(batch))

    async def compact(self, stream: StreamKey) -> int:
        """See `base.Writer`."""
        return await self._do(lambda: self._compact(stream))

    async def delete_run(self, run: str) -> bool:
        """See `base.Writer`."""
        return await self._do(lambda: self._delete(run))

    async def close(self) -> None:
        """See `base.Writer`."""
        if self._closed:
            return
        self._closed = True
        await asyncio.to_thread(self._close)

    async def _do(self, work: Callable[[], _T]) -> _T:
        if self._closed:
            raise StoreError("this writer was closed")
        if os.getpid() != self._process:
            raise StoreError("a writer does not survive a fork: open one in the child")
        return await asyncio.get_running_loop().run_in_executor(self._work, work)

    # Below: in threads.

    def _close(self) -> None:
        self._work.shutdown()
        self._bulks.shutdown()
        self._client.close()

    def _extents(self, streams: Sequence[StreamKey]) -> dict[StreamKey, Extent | None]:
        deleted = self._buried(streams)
        found: dict[StreamKey, Extent | None] = {}
        for key in streams:
            found[key] = None if key in deleted else Extent()
        rows = self._streams.get(key for key in streams if key not in deleted)
        buckets: dict[str, list[StreamKey]] = {}
        for key, row in rows.items():
            self._remember(key, row.bucket)
            buckets.setdefault(row.bucket, []).append(key)
        for bucket, keys in buckets.items():
            found.update(self._stored(self._names.blocks(bucket), keys))
        return found

    def _buried(self, streams: Collection[StreamKey]) -> set[StreamKey]:
        """Return those of `streams` that the deletion of their run holds for."""
        deleted = self._tombstones.among({key.run for key in streams})
        return {key for key in streams if self._starts.buried(key, deleted.get(key.run))}

    def _stored(self, index: str, keys: Sequence[StreamKey]) -> Iterator[tuple[StreamKey, Extent]]:
        """Yield what lies in an index of streams, seen after a refresh, on primaries."""
        self._client.call("POST", f"/{index}/_refresh", ignore_unavailable=True)
        for start in range(0, len(keys), chains.PAGE):
            part = keys[start : start + chains.PAGE]
            search = Search(self._client, index, {key.run for key in part}, primaries=True)
            query = {"terms": {"stream": [stream_id(key) for key in part]}}
            found = chains.sums(search, query, chains.COUNTERS)
            for key in part:
                stream = stream_id(key)
                yield key, chains.extent(search, stream, found.get(stream))

    def _write(self, batch: Batch) -> list[BlockKey]:
        streams = {block.head.stream for block in batch.blocks}
        deleted = self._buried(streams | {facts.stream for facts in batch.facts})
        blocks = [block for block in batch.blocks if block.head.stream not in deleted]
        self._settle(blocks, [facts for facts in batch.facts if facts.stream not in deleted])
        stood = [block.head.key for block in batch.blocks if block.head.stream in deleted]
        before = self._done_before(blocks)
        outcome = self._create_all([one for one in blocks if one.head.key not in before])
        stood += [key for key, (_, stands) in before.items() if stands]
        self._note_done(blocks, before, outcome)
        if outcome.blocked:
            self._indices.take_over(outcome.blocked)
        outcome.check()
        for block in blocks:
            # A newline at its end: nothing is unfinished, whatever becomes of the stream.
            self._put(self._tails, block.head.stream, (block.head.end, block.data[-1:] == b"\n"))
        for facts in batch.facts:
            if facts.end is not None and facts.stream not in deleted:
                self._finish(facts)
        return stood + outcome.stood

    def _done_before(self, blocks: Sequence[Block]) -> dict[BlockKey, tuple[Block, bool]]:
        """Return those of a batch that comes again that need not be sent again."""
        return {
            block.head.key: self._done[block.head.key]
            for block in blocks
            if self._done.get(block.head.key, (None,))[0] is block
        }

    def _note_done(
        self,
        blocks: Sequence[Block],
        before: Mapping[BlockKey, tuple[Block, bool]],
        outcome: bulk.Outcome,
    ) -> None:
        """Remember what a batch that failed in part has written; forget it when all of it is."""
        if outcome.failed or outcome.missing or outcome.refused:
            done, stood = set(outcome.done), set(outcome.stood)
            fresh = ((block.head.key, block) for block in blocks)
            now = {key: (one, key in stood) for key, one in fresh if key in done or key in stood}
            self._done = {**now, **before}
        else:
            self._done = {key: one for key, one in self._done.items() if key not in before}

    def _settle(self, blocks: Sequence[Block], facts: Sequence[Facts]) -> None:
        """Store facts, and see to it that the bucket of every block's stream is known."""
        told = {one.stream for one in facts}
        unknown: dict[StreamKey, Facts] = {}
        with self._lock:
            for block in blocks:
                key = block.head.stream
                if key not in told and key not in self._buckets and key not in unknown:
                    # Blocks without facts are kept all the same, should no document be there.
                    unknown[key] = self._starts.set_right(totals.facts_of(block.head))
        if not told and not unknown:
            return
        known = self._streams.get([*told, *unknown])
        missing = [one for key, one in unknown.items() if key not in known]
        self._remember_all(known)
        made = self._streams.put([*facts, *missing], known)
        for bucket in sorted(set(made.values())):
            self._make_bucket(bucket)
        for key, bucket in made.items():
            self._remember(key, bucket)
        if any(key not in known for key in made):
            # Another worker may have been first, with another start: its bucket counts.
            self._remember_all(self._streams.get(key for key in made if key not in known))

    def _make_bucket(self, bucket: str) -> None:
        if bucket not in self._made:
            setup.create_index(self._client, self._names.blocks(bucket))
            self._made.add(bucket)

    def _create_all(self, blocks: Sequence[Block]) -> bulk.Outcome:
        """Create blocks; an index that was dropped meanwhile, because no run was left, is made."""
        outcome = bulk.Outcome()
        for _ in range(_ROUNDS):
            outcome.missing = set()
            for one in self._bulks.map(self._create, shares(blocks)):
                outcome.join(one)
            for index in outcome.missing:
                setup.create_index(self._client, index)
            written = {*outcome.done, *outcome.stood}
            blocks = [
                one
                for one in blocks
                if one.head.key not in written and self._index(one.head) in outcome.missing
            ]
            if not blocks:
                break
        return outcome

    def _create(self, blocks: Sequence[Block]) -> bulk.Outcome:
        items = [self._item(block) for block in blocks]
        outcome = bulk.Outcome()
        for part in bulk.parts(items):
            try:
                outcome.join(bulk.send(self._client, part))
            except StoreError as error:
                outcome.failed.append(str(error))
                break
        return outcome

    def _item(self, block: Block) -> bulk.Item:
        index = self._index(block.head)
        line = action("create", index, block.head)
        return bulk.Item(block.head.key, index, line + document(block))

    def _index(self, head: Head) -> str:
        with self._lock:
            bucket = self._buckets.get(head.stream)
        if bucket is None:
            raise StoreError("more streams at once than are remembered: trying again")
        return self._names.blocks(bucket)

    def _finish(self, facts: Facts) -> None:
        """Count the last line of an ended stream, where it was sealed as an unfinished one."""
        end = facts.end.length if facts.end else 0
        with self._lock:
            known = self._tails.pop(facts.stream, None)
            bucket = self._buckets.get(facts.stream)
        if end and known != (end, True) and bucket is not None:
            Compactor(self._client, self._names.blocks(bucket), facts).finish()

    def _compact(self, stream: StreamKey) -> int:
        deleted = self._tombstones.among([stream.run]).get(stream.run)
        row = self._streams.get([stream]).get(stream)
        if row is None or (deleted is not None and row.facts.started <= deleted):
            return 0
        return Compactor(self._client, self._names.blocks(row.bucket), row.facts).run()

    def _delete(self, run: str) -> bool:
        # Acknowledged documents that no search sees yet are part of the run too.
        self._client.call(
            "POST",
            f"/{self._names.blocks()},{self._names.streams}/_refresh",
            ignore_unavailable=True,
            allow_no_indices=True,
        )
        before = self._tombstones.among([run]).get(run)
        rows = list(self._streams.of_runs([run]))
        if not any(before is None or row.facts.started > before for row in rows):
            return False
        self._tombstones.bury(run)
        with self._lock:
            for key in [key for key in self._buckets if key.run == run]:
                del self._buckets[key]
        self._tombstones.remove(run_key(run))
        self._made -= self._indices.drop_empty({row.bucket for row in rows})
        return True

    def _remember_all(self, rows: Mapping[StreamKey, Row]) -> None:
        for key, row in rows.items():
            self._remember(key, row.bucket)

    def _remember(self, key: StreamKey, bucket: str) -> None:
        self._put(self._buckets, key, bucket)

    def _put(self, into: OrderedDict[StreamKey, _T], key: StreamKey, value: _T) -> None:
        with self._lock:
            into[key] = value
            into.move_to_end(key)
            if len(into) > _MOST_STREAMS:
                into.popitem(last=False)


def shares(blocks: Iterable[Block], share_bytes: int = SHARE_BYTES) -> Iterator[list[Block]]:
    """Yield blocks in lists of about so many bytes, each of which becomes one request."""
    share: list[Block] = []
    size = 0
    for block in blocks:
        share.append(block)
        size += block.head.length
        if size >= share_bytes:
            yield share
            share, size = [], 0
    if share:
        yield share
