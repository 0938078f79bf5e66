"""The streams that a search meets, each with its facts and its predicate, asked for once."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import NamedTuple

from loghaul.chunk import BLOB, StreamKey
from loghaul_ingest import runs
from loghaul_ingest.block import Facts, Head
from loghaul_ingest.query.matcher import Matcher, matcher
from loghaul_ingest.query.tree import Tree
from loghaul_ingest.stores.base import Reader


class Bound(NamedTuple):
    """A stream, and what the query asks of its lines (None: no line can match)."""

    facts: Facts
    matcher: Matcher | None


class Catalog:
    """Facts of streams with their attempts, and the query bound to each."""

    def __init__(self, reader: Reader, tree: Tree) -> None:
        self._reader = reader
        self._tree = tree
        self._streams: dict[StreamKey, Bound] = {}

    def of(self, head: Head) -> Bound:
        """Return the stream of a block; reads its run when it is the first of it."""
        found = self._streams.get(head.stream)
        if found is None:
            self._read(head.stream.run)
            found = self._streams.get(head.stream)
        if found is None:  # deleted meanwhile
            found = Bound(Facts(head.stream, head.kind, 0, {}), None)
        return found

    def all(self, names: Iterable[str]) -> dict[StreamKey, Bound]:
        """Return every stream of these runs that has lines."""
        for run in names:
            self._read(run)
        return {key: found for key, found in self._streams.items() if found.facts.kind != BLOB}

    def _read(self, run: str) -> None:
        rows = self._reader.streams(run)
        attempts = runs.attempts(rows)
        for row in rows:
            facts = row.facts
            attempt = attempts.get(facts.stream.writer)
            if attempt is not None:
                common = {**facts.common, "run.attempt": attempt}
                facts = dataclasses.replace(facts, common=common)
            bound = None if facts.kind == BLOB else matcher(self._tree, facts)
            self._streams[facts.stream] = Bound(facts, bound)
