"""Dead letters as a source: each is a partition with one record; committing it removes the letter.

So a letter goes only when what it holds is stored, or lies in a new letter with a new reason. What
others wrote begins a stream of its own, whose name comes from the letter: a replay that was cut
short and is begun again stores nothing twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from loghaul.chunk import Chunk, Record, encode
from loghaul_ingest.dead_letters import DeadLetters, Letter
from loghaul_ingest.errors import IngestError
from loghaul_ingest.sources.base import Assigned, Event, Fetched, Partition


class LetterSource:
    """See `base.Source`. `item` makes of a letter what is sent, when it is sent."""

    def __init__(
        self,
        dead_letters: DeadLetters,
        letters: Sequence[Letter],
        item: Callable[[Letter], Awaitable[Record | Chunk]],
    ) -> None:
        self.removed = 0
        self._dead_letters, self._item = dead_letters, item
        self._waiting = list(letters)
        self._given: dict[Partition, Letter] = {}

    @property
    def done(self) -> bool:
        """Whether every letter was given."""
        return not self._waiting

    async def fetch(self, max_bytes: int, timeout_seconds: float) -> Sequence[Event]:
        """See `base.Source`. Raises UsageError for a letter that cannot be sent."""
        events: list[Event] = []
        while self._waiting and max_bytes > 0:
            letter = self._waiting[0]
            try:
                item = await self._item(letter)
            except IngestError:
                if events:
                    # Those before it are on their way; it is met again.
                    break
                raise
            self._waiting.pop(0)
            record = encode(item) if isinstance(item, Chunk) else item
            before = letter.about.get("partition", "dead-letters")
            partition = Partition(f"{before}#{letter.name}", 0)
            self._given[partition] = letter
            time_us = _arrival(letter)
            events += [Assigned(partition), Fetched(partition, 0, record, time_us)]
            max_bytes -= len(record.value) + 1
        if not events and timeout_seconds:
            await asyncio.sleep(timeout_seconds)
        return events

    async def commit(self, positions: Mapping[Partition, Any]) -> None:
        """See `base.Source`: what is stored is a letter no more."""
        for partition in positions:
            letter = self._given.get(partition)
            if letter is not None:
                await self._dead_letters.remove(letter, "replayed")
                del self._given[partition]
                self.removed += 1

    async def close(self) -> None:
        """See `base.Source`."""
        self._waiting.clear()


def _arrival(letter: Letter) -> int | None:
    record = letter.about.get("record")
    said = record.get("time_us") if isinstance(record, dict) else None
    return said if isinstance(said, int) else letter.time_us or None
