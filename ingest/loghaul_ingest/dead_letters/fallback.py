"""Dead letters in one place, or in another while that one takes none.

A worker must not stand still for a dead letter alone. So what the first place does not take at
once is kept in the second, and reported; the first is left alone for a while then, for longer each
time. Whoever reads sees both as one: a letter that is in both, because the first one's answer got
lost, is shown and removed once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from loghaul_ingest.dead_letters.base import DeadLetters, Letter, TooLarge
from loghaul_ingest.errors import NotFound, StoreError

#: First and longest time that a place which failed is left alone.
SHORTEST_SECONDS, LONGEST_SECONDS = 30.0, 600.0

#: What the log says when letters go elsewhere; counted under this name by a watch.
ASIDE = "dead letters are kept in the directory"


class FallbackLetters:
    """See `base.DeadLetters`. `unread`: why the last list is without those of the first place."""

    def __init__(
        self,
        first: DeadLetters,
        second: DeadLetters,
        note: Callable[..., None] = lambda event, **fields: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.unread: str | None = None
        self._listed: set[str] | None = None
        self._first, self._second, self._note, self._clock = first, second, note, clock
        self._again_at, self._pause_seconds = float("-inf"), SHORTEST_SECONDS

    def __str__(self) -> str:
        return f"{self._first} and {self._second}"

    async def put(self, letter: Letter, data: bytes) -> None:
        """See `base.DeadLetters`. Raises what the second place raises."""
        if self._clock() < self._again_at:
            return await self._second.put(letter, data)
        try:
            await self._first.put(letter, data)
            self._pause_seconds = SHORTEST_SECONDS
        except StoreError as error:
            if not isinstance(error, TooLarge):
                self._again_at = self._clock() + self._pause_seconds
                self._pause_seconds = min(2 * self._pause_seconds, LONGEST_SECONDS)
            await self._second.put(letter, data)
            self._note(ASIDE, error=str(error))

    async def letters(self) -> Sequence[Letter]:
        """See `base.DeadLetters`. Where the first cannot be read, `unread` says why."""
        found = {one.name: one for one in await self._second.letters()}
        self.unread, self._listed = None, set()
        try:
            for one in await self._first.letters():
                found[one.name] = one
                self._listed.add(one.name)
        except StoreError as error:
            self.unread = str(error)
        return [found[name] for name in sorted(found)]

    async def data(self, letter: Letter) -> bytes:
        """See `base.DeadLetters`."""
        try:
            return await self._second.data(letter)
        except NotFound:
            return await self._first.data(letter)

    async def remove(self, letter: Letter, why: str) -> None:
        """See `base.DeadLetters`. The first is not asked for one that it did not list."""
        if self._listed is None or letter.name in self._listed:
            await self._first.remove(letter, why)
        await self._second.remove(letter, why)

    async def close(self) -> None:
        """See `base.DeadLetters`."""
        await self._first.close()
        await self._second.close()
