"""Dead letters in memory, for tests, yours included.

`refusal` is raised by everything while it is set.
"""

from __future__ import annotations

from collections.abc import Sequence

from loghaul_ingest.dead_letters.base import Letter
from loghaul_ingest.errors import NotFound, StoreError


class MemoryLetters:
    """See `base.DeadLetters`."""

    def __init__(self) -> None:
        self.refusal: StoreError | None = None
        self.kept: dict[str, tuple[Letter, bytes]] = {}

    async def put(self, letter: Letter, data: bytes) -> None:
        """See `base.DeadLetters`."""
        self._refuse()
        self.kept[letter.name] = (Letter(letter.name, letter.about, "memory"), data)

    async def letters(self) -> Sequence[Letter]:
        """See `base.DeadLetters`."""
        self._refuse()
        return [self.kept[name][0] for name in sorted(self.kept)]

    async def data(self, letter: Letter) -> bytes:
        """See `base.DeadLetters`."""
        self._refuse()
        if letter.name not in self.kept:
            raise NotFound(f"dead letter {letter.name} is gone")
        return self.kept[letter.name][1]

    async def remove(self, letter: Letter, why: str) -> None:
        """See `base.DeadLetters`."""
        self._refuse()
        self.kept.pop(letter.name, None)

    async def close(self) -> None:
        """See `base.DeadLetters`."""

    def _refuse(self) -> None:
        if self.refusal is not None:
            raise self.refusal
