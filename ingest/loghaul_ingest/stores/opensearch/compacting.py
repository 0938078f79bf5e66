"""Merging small blocks of a stream: first the merged block stands, then the others go.

The merged block takes the id of the first one, by compare and set, so that of two workers that
compact the same stream only one gets through; only then are the others deleted, by compare and set
too. Whatever ends this in between leaves blocks that overlap: readers skip what they were given,
and the next compaction repairs it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from loghaul_ingest.block import MAX_BYTES, MAX_LINES, Block, Facts, Head
from loghaul_ingest.stores import compaction
from loghaul_ingest.stores.base import Stored
from loghaul_ingest.stores.opensearch import bulk, chains
from loghaul_ingest.stores.opensearch.client import Client
from loghaul_ingest.stores.opensearch.content import unpack
from loghaul_ingest.stores.opensearch.documents import action, clamped, document, identity
from loghaul_ingest.stores.opensearch.names import run_key, stream_id
from loghaul_ingest.stores.opensearch.queries import every
from loghaul_ingest.stores.opensearch.searches import Search

#: Bytes merged at a time.
STEP_BYTES = 4 * 2**20


class _Found(NamedTuple):
    stored: Stored
    place: Mapping[str, int]


class Compactor:
    """One compaction of one stream."""

    def __init__(self, client: Client, index: str, facts: Facts) -> None:
        self._client, self._index, self._facts = client, index, facts
        self._stream = stream_id(facts.stream)
        self._search = Search(client, index, [facts.stream.run], primaries=True)

    def run(self) -> int:
        """Merge what is worth it; return how many blocks vanished."""
        self._client.call("POST", f"/{self._index}/_refresh", ignore_unavailable=True)
        if not self._worthwhile():
            return 0
        vanished = 0
        for step in self._steps():
            vanished += self._step(step)
        if vanished:
            # Who searches must not see both what was merged and what it was merged of.
            self._client.call("POST", f"/{self._index}/_refresh", ignore_unavailable=True)
        return vanished

    def finish(self) -> None:
        """Count the last line of an ended stream, where it was sealed as an unfinished one."""
        end = self._facts.end
        if end is None:
            return
        self._client.call("POST", f"/{self._index}/_refresh", ignore_unavailable=True)
        query = every([{"term": {"stream": self._stream}}, {"term": {"end": clamped(end.length)}}])
        head = next(self._search.all_heads(query, [{"offset": "desc"}], size=1), None)
        found = self._load([head]) if head is not None else {}
        if head is None or head.offset not in found:
            return
        stored = found[head.offset].stored
        block = compaction.finished(stored.head, self._facts, lambda _: stored, self._below)
        if block is not None:
            self._send([self._write(0, block, found)])

    def _worthwhile(self) -> bool:
        """Whether there are small blocks or overlaps: asked before all heads are read."""
        small = every(
            [{"term": {"stream": self._stream}}, {"range": {"lines": {"lt": MAX_LINES // 2}}}]
        )
        found = chains.sums(self._search, {"term": {"stream": self._stream}}, chains.COUNTERS)
        whole = found.get(self._stream)
        if whole is None or whole.blocks < 2:
            return False
        few = chains.sums(self._search, small, chains.COUNTERS).get(self._stream)
        return not whole.chained or (
            few is not None and few.blocks > 1 and few.number("length") < few.blocks * MAX_BYTES
        )

    def _steps(self) -> Iterator[list[compaction.Group]]:
        heads = list(chains.blocks_of(self._search, self._stream))
        step: list[compaction.Group] = []
        size = 0
        for group in compaction.plan(heads):
            step.append(group)
            size += sum(head.length for head in group.heads)
            if size >= STEP_BYTES:
                yield step
                step, size = [], 0
        if step:
            yield step

    def _step(self, groups: Sequence[compaction.Group]) -> int:
        found = self._load([head for group in groups for head in group.heads])
        vanished = 0
        writes: list[bulk.Item] = []
        removals: list[list[bulk.Item]] = []
        for number, group in enumerate(groups):
            if any(found.get(head.offset, _GONE).stored.head != head for head in group.heads):
                continue  # somebody else is at work here
            merged = self._merged(group, found)
            if len(merged) == len(group.heads) and not group.overlapping:
                continue
            for block in merged:
                writes.append(self._write(number, block, found))
            kept = {block.head.offset for block in merged}
            gone = [head for head in group.heads if head.offset not in kept]
            removals.append([self._delete(number, head, found) for head in gone])
        lost = set(self._send(writes).stood)
        deletes = [item for items in removals for item in items if item.tag not in lost]
        vanished = len(self._send(deletes).done)
        return vanished - sum(1 for item in writes if item.tag not in lost and _is_new(item))

    def _merged(self, group: compaction.Group, found: Mapping[int, _Found]) -> list[Block]:
        return compaction.merge(
            group, self._facts, lambda head: found[head.offset].stored, self._below
        )

    def _below(self, offset: int) -> Iterator[Stored]:
        """Blocks that begin below an offset, nearest first."""
        query = every([{"term": {"stream": self._stream}}, {"range": {"offset": {"lt": offset}}}])
        for head in self._search.all_heads(query, [{"offset": "desc"}], size=8):
            found = self._load([head]).get(head.offset)
            if found is None:
                return
            yield found.stored

    def _load(self, heads: Sequence[Head]) -> dict[int, _Found]:
        found: dict[int, _Found] = {}
        for start in range(0, len(heads), 256):
            docs = [
                {
                    "_id": identity(head),
                    "routing": run_key(head.stream.run),
                    "stored_fields": ["content"],
                }
                for head in heads[start : start + 256]
            ]
            path = f"/{self._index}/_mget"
            reply = self._client.call("POST", path, {"docs": docs}, preference="_primary")
            for one in reply["docs"]:
                if one.get("found"):
                    stored = unpack(one["fields"]["content"][0])
                    place = {"if_seq_no": one["_seq_no"], "if_primary_term": one["_primary_term"]}
                    found[stored.head.offset] = _Found(stored, place)
        return found

    def _write(self, tag: int, block: Block, found: Mapping[int, _Found]) -> bulk.Item:
        before = found.get(block.head.offset)
        kind: str = "index" if before else "create"
        place: Mapping[str, Any] = before.place if before else {}
        line = action(kind, self._index, block.head, **place)
        return bulk.Item(tag, self._index, line + document(block))

    def _delete(self, tag: int, head: Head, found: Mapping[int, _Found]) -> bulk.Item:
        line = action("delete", self._index, head, **found[head.offset].place)
        return bulk.Item(tag, self._index, line)

    def _send(self, items: Sequence[bulk.Item]) -> bulk.Outcome:
        outcome = bulk.Outcome()
        for part in bulk.parts(items):
            outcome.join(bulk.send(self._client, part))
        outcome.check()
        return outcome


def _is_new(item: bulk.Item) -> bool:
    return item.raw.startswith(b'{"create"')


class _Nothing:
    head = None


_GONE = _Found(_Nothing(), {})  # type: ignore[arg-type]
