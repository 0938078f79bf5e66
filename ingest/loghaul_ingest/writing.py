"""Insisting: the policy between the worker and a store that fails.

An error that may pass is retried for ever, with backoff, and reported each time; nothing else is
written meanwhile, so the source is held up and not the memory. An error that will not pass is
traced to its block: that one is tried without its words (and marked so), then kept as a dead
letter. Success is returned only for what is durable.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from loghaul.chunk import StreamKey
from loghaul_ingest.block import UNINDEXED as UNINDEXED
from loghaul_ingest.block import Block, BlockKey, Extent, Facts
from loghaul_ingest.dead_letters.base import (
    DeadLetters,
    described_block,
    described_facts,
    new_letter,
)
from loghaul_ingest.errors import StoreError
from loghaul_ingest.stores.base import Batch, Writer

T = TypeVar("T")

#: First and longest pause before something is tried again.
SHORTEST_SECONDS, LONGEST_SECONDS = 0.1, 30.0

#: What the log says when a store is tried again; the last line of it while that goes on.
RETRYING = "store failed, trying again"


class Stopped(Exception):
    """The worker ends: what was being tried is given up, and was not done."""


class Writing:
    """A writer that is insisted on. `failing` says what is being tried again at the moment."""

    def __init__(self, writer: Writer, letters: DeadLetters, note: Callable[..., None]) -> None:
        self.failing: str | None = None
        self.retries = 0
        self._writer, self._letters, self._note = writer, letters, note
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Give up at the next failure instead of trying again."""
        self._stopping.set()

    async def write(self, batch: Batch) -> tuple[Sequence[BlockKey], Mapping[BlockKey, str]]:
        """Write a batch; return (blocks that stood there already, dead letters with reason)."""
        try:
            return await self._insist("write", lambda: self._writer.write(batch)), {}
        except StoreError as error:
            self._note("a batch was refused for good, trying one by one", error=str(error))
        conflicts: list[BlockKey] = []
        dead: dict[BlockKey, str] = {}
        for facts in batch.facts:
            await self._one_facts(facts)
        known = {facts.stream: facts for facts in batch.facts}
        for block in batch.blocks:
            await self._one_block(block, known.get(block.head.stream), conflicts, dead)
        return conflicts, dead

    async def extents(self, streams: Mapping[StreamKey, int]) -> Mapping[StreamKey, Extent | None]:
        """Ask what is stored. A stream that cannot be told is taken for unknown: its blocks will
        be refused too, and kept as dead letters.
        """
        try:
            return await self._insist("extents", lambda: self._writer.extents(streams))
        except StoreError as error:
            if len(streams) == 1:
                self._note("what is stored cannot be told", error=str(error))
                return dict.fromkeys(streams, Extent())
        found: dict[StreamKey, Extent | None] = {}
        for stream, started in streams.items():
            found.update(await self.extents({stream: started}))
        return found

    async def bury(self, reason: str, about: Mapping[str, Any], data: bytes) -> None:
        """Keep a dead letter; tried again until it is kept."""
        letter = new_letter(reason, about, data)
        await self._insist("dead letter", lambda: self._letters.put(letter, data))
        self._note("dead letter", name=letter.name, place=letter.place, reason=reason)

    async def _one_facts(self, facts: Facts) -> None:
        try:
            await self._insist("write", lambda: self._writer.write(Batch((), (facts,))))
        except StoreError as error:
            await self.bury(str(error), described_facts(facts), b"")

    async def _one_block(
        self,
        block: Block,
        facts: Facts | None,
        conflicts: list[BlockKey],
        dead: dict[BlockKey, str],
    ) -> None:
        bare = replace(block, words=b"", words_high=b"", fields=frozenset((UNINDEXED,)))
        reason = ""
        for attempt in (block, bare):
            batch = Batch((attempt,))
            try:
                conflicts.extend(await self._insist("write", lambda: self._writer.write(batch)))  # noqa: B023 - awaited here
                return
            except StoreError as error:
                reason = reason or str(error)
        await self.bury(reason, described_block(block, facts), block.data)
        dead[block.head.key] = f"refused by the store, kept as a dead letter: {reason}"

    async def _insist(self, what: str, call: Callable[[], Awaitable[T]]) -> T:
        pause = SHORTEST_SECONDS
        while True:
            try:
                result = await call()
                self.failing = None
                return result
            except StoreError as error:
                if error.permanent:
                    raise
                self.failing = f"{what}: {error}"
                self.retries += 1
                self._note(RETRYING, what=what, error=str(error), pause=pause)
            if self._stopping.is_set():
                raise Stopped(self.failing)
            await self._pause(pause * random.uniform(0.7, 1.3))
            pause = min(pause * 2, LONGEST_SECONDS)

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            pass
