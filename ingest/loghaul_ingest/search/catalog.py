"""The streams that a search meets, each with its facts and its predicate, asked for once."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from loghaul.chunk import BLOB, StreamKey
from loghaul_ingest import runs
from loghaul_ingest.block import Facts, Head
from loghaul_ingest.query.matcher import Matcher, matcher
from loghaul_ingest.query.tree import Tree
from loghaul_ingest.stores.base import Reader

#: Blocks looked at together where all are gone through.
_AT_ONCE = 512


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
        if head.stream not in self._streams:
            self.learn([head])
        return self._streams[head.stream]

    def wanted(self, heads: Sequence[Head]) -> list[Head]:
        """Return those of some blocks in which a line can match, as far as their streams tell."""
        self.learn(heads)
        return [head for head in heads if self._streams[head.stream].matcher is not None]

    def among(self, heads: Iterator[Head]) -> Iterator[Head]:
        """Yield those of many blocks in which a line can match, as far as their streams tell."""
        while batch := list(islice(heads, _AT_ONCE)):
            yield from self.wanted(batch)

    def learn(self, heads: Iterable[Head]) -> None:
        """Read the runs of blocks whose streams are not known yet, all at once."""
        unknown = [head for head in heads if head.stream not in self._streams]
        if not unknown:
            return
        self._read({head.stream.run for head in unknown})
        for head in unknown:  # what is still unknown was deleted meanwhile
            nobody = Bound(Facts(head.stream, head.kind, 0, {}), None)
            self._streams.setdefault(head.stream, nobody)

    def all(self, names: Iterable[str]) -> dict[StreamKey, Bound]:
        """Return every stream of these runs that has lines."""
        self._read(names)
        return {key: found for key, found in self._streams.items() if found.facts.kind != BLOB}

    def _read(self, names: Iterable[str]) -> None:
        for streams in self._reader.facts(names).values():
            attempts = runs.attempts_of(streams)
            for facts in streams:
                attempt = attempts.get(facts.stream.writer)
                if attempt is not None:
                    common = {**facts.common, "run.attempt": attempt}
                    facts = dataclasses.replace(facts, common=common)
                bound = None if facts.kind == BLOB else matcher(self._tree, facts)
                self._streams[facts.stream] = Bound(facts, bound)
