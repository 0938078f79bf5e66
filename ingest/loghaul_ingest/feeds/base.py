"""The seam between a follower and what tells it sooner than the store: the spool, or the topic.

A feed only has to be early. The store has everything in the end, and is asked where a feed leaves
something out; so a feed may repeat, begin late, fail for a while, or never have heard of a stream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from loghaul.chunk import Chunk, StreamKey


class Feed(Protocol):
    """Chunks of one run as they come. Used from one thread; nothing raises, nothing waits.

    settle_seconds     how long after the last end of a run a stream nobody knew may still show
    patience_seconds   how long bytes that are missing then are waited for, while nothing comes
    """

    settle_seconds: float
    patience_seconds: float

    @property
    def live(self) -> bool:
        """Whether what is written now comes here."""
        ...

    @property
    def current(self) -> bool:
        """Whether all that was there when it became live was given."""
        ...

    @property
    def beginnings(self) -> int:
        """How often it became live. What it left out before the last time, the store has."""
        ...

    @property
    def expecting(self) -> bool:
        """Whether something of the run may come although nothing is known of it yet."""
        ...

    @property
    def abandoned(self) -> bool:
        """Whether a writer that is read has gone, so that somebody has to write its end."""
        ...

    @property
    def trouble(self) -> str:
        """Why nothing comes, as a sentence for a person; "" while nothing is wrong."""
        ...

    def follow(self, stream: StreamKey, position: Callable[[], int | None]) -> None:
        """Note a stream of which chunks are wanted; others may be given too.

        position    asks the store for the transport position that its last block notes; called
                    where it is needed, from any thread
        """
        ...

    def miss(self, stream: StreamKey) -> None:
        """Hear that of a stream the store and this feed do not meet: look for it anew."""
        ...

    def take(self) -> Iterable[Chunk]:
        """Return what came since the last call, a bounded part of it; of a stream in order."""
        ...

    def wait(self) -> None:
        """Return when there is something to take, or after a moment."""
        ...

    def close(self) -> None:
        """Give up what is open. Idempotent."""
        ...
