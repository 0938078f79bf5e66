"""A feed that gives what it is told to: for tests, and for a run that only the store knows."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from loghaul.chunk import Chunk, StreamKey


class MemoryFeed:
    """See `base.Feed`. `put` what is to come; `followed` and `missed` say what was asked for."""

    def __init__(self, settle_seconds: float = 0.0, patience_seconds: float = 0.0) -> None:
        self.settle_seconds, self.patience_seconds = settle_seconds, patience_seconds
        self.live = self.current = True
        self.beginnings = 0
        self.expecting = self.abandoned = False
        self.trouble = ""
        self.followed: dict[StreamKey, Callable[[], int | None]] = {}
        self.missed: list[StreamKey] = []
        self._chunks: list[Chunk] = []

    def put(self, *chunks: Chunk) -> None:
        """Let these come with the next `take`."""
        self._chunks.extend(chunks)

    def follow(self, stream: StreamKey, position: Callable[[], int | None]) -> None:
        """See `base.Feed`."""
        self.followed[stream] = position

    def miss(self, stream: StreamKey) -> None:
        """See `base.Feed`."""
        self.missed.append(stream)

    def take(self) -> Iterable[Chunk]:
        """See `base.Feed`."""
        taken, self._chunks = self._chunks, []
        return taken

    def wait(self) -> None:
        """See `base.Feed`; what is to come is there already."""

    def close(self) -> None:
        """See `base.Feed`."""
