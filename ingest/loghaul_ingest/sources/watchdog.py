"""Notices that records wait and none come, which only a new process mends.

It looks in a task of its own, now and then, and only after a long silence: whoever reads is never
held up by it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from loghaul_ingest.errors import SourceError

#: Records wait, and none came for so long: something is broken.
STALL_SECONDS, LOOK_SECONDS = 180.0, 30.0


class Stalled(SourceError):
    """Records wait and none come: the process has to be started anew."""

    permanent = True


class Watchdog:
    """`alive` whenever something came, or nothing could; `check` whenever it was waited for.

    look      asked after a silence of so many seconds: a sentence that says what waits, or ""
    """

    def __init__(
        self,
        look: Callable[[float], Awaitable[str]],
        seconds: float,
        clock: Callable[[], float],
    ) -> None:
        self._look, self._seconds, self._clock = look, seconds, clock
        self._alive_at = self._looked_at = clock()
        self._looking: asyncio.Task[None] | None = None
        self._found = ""

    def alive(self) -> None:
        """Begin to count anew."""
        self._alive_at = self._clock()

    def check(self) -> None:
        """Look, where it is time to. Raises Stalled when it was found so."""
        if self._looking is not None and self._looking.done():
            task, self._looking = self._looking, None
            # Who does not answer is away, and not what is looked for here.
            with contextlib.suppress(Exception):
                task.result()
        if self._found:
            raise Stalled(self._found)
        due = self._clock() - self._looked_at > LOOK_SECONDS
        if self._looking is None and due and self._silent > self._seconds:
            self._looked_at = self._clock()
            self._looking = asyncio.create_task(self._ask())

    async def close(self) -> None:
        """End a look that is under way."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
            self._looking = None

    @property
    def _silent(self) -> float:
        return self._clock() - self._alive_at

    async def _ask(self) -> None:
        found = await self._look(self._silent)
        # Something may have come meanwhile.
        if self._silent > self._seconds:
            self._found = found
