"""What is known of a run that is followed: the rows of the store, and what its chunks told beyond.

A chunk tells the facts of its stream, its end and what was lost before the store has them.
"""

from __future__ import annotations

from collections.abc import Sequence

from loghaul.chunk import Chunk, StreamKey
from loghaul_ingest.block import Facts
from loghaul_ingest.runs import summarise
from loghaul_ingest.stores import totals
from loghaul_ingest.stores.base import StreamRow


class Knowledge:
    """Streams of one run. `stored`: the rows of the store, as it said last."""

    def __init__(self) -> None:
        self.stored: dict[StreamKey, StreamRow] = {}
        self._told: dict[StreamKey, Facts] = {}
        self._running: bool | None = None

    def learn(self, rows: Sequence[StreamRow]) -> None:
        """Take what the store says."""
        self.stored = {row.facts.stream: row for row in rows}
        self._running = None

    def tell(self, chunk: Chunk) -> bool:
        """Take what a chunk says; return whether it is news of its stream as a whole."""
        known = self.facts(chunk.key)
        if known is None and chunk.common is None:
            return False
        told = Facts(
            chunk.key, chunk.kind, chunk.started, chunk.common or {}, chunk.end, chunk.gaps
        )
        joined = totals.joined(known, told)
        if joined == known:
            return False
        self._told[chunk.key] = joined
        self._running = None
        return True

    def facts(self, key: StreamKey) -> Facts | None:
        """Return the facts of a stream; None of one of which nothing is known."""
        told, row = self._told.get(key), self.stored.get(key)
        if row is None or told is None:
            return told if row is None else row.facts
        return totals.joined(row.facts, told)

    def rows(self) -> list[StreamRow]:
        """Return the streams of the run: those of the store, and what was told beyond."""
        rows = dict(self.stored)
        for key in self._told:
            row, facts = rows.get(key), self.facts(key)
            assert facts is not None
            if row is None:
                rows[key] = StreamRow(facts, 0, 0, 0, {}, None, None, ())
            elif row.facts != facts:
                rows[key] = row._replace(facts=facts)
        return list(rows.values())

    def running(self, otherwise: bool) -> bool:
        """Whether the run goes on; `otherwise` where no stream of it is known."""
        if self._running is None:
            rows = self.rows()
            if not rows:
                return otherwise
            self._running = summarise(rows).status == "running"
        return self._running

    @property
    def agreed(self) -> bool:
        """Whether the store knows of itself all streams, and that the run has ended."""
        if not self._told.keys() <= self.stored.keys():
            return False
        return not self.stored or summarise(list(self.stored.values())).status != "running"
