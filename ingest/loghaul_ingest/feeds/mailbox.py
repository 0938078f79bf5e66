"""What the thread that follows and the thread that reads a topic hand to each other."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from loghaul.chunk import Chunk, StreamKey

#: Bytes that wait to be taken; then nothing is read until they were.
MAILBOX_BYTES = 8 * 2**20


class Mailbox:
    """Every method may be called from any thread; none waits but `wait`."""

    def __init__(self) -> None:
        self._lock, self._came = threading.Lock(), threading.Event()
        self._chunks: list[Chunk] = []
        self._bytes = 0
        self._followed: dict[StreamKey, Callable[[], int | None]] = {}
        self._new: set[StreamKey] = set()
        self._missed: set[StreamKey] = set()

    def put(self, chunks: Sequence[Chunk]) -> None:
        """Add chunks behind those that wait."""
        with self._lock:
            self._chunks.extend(chunks)
            self._bytes += sum(len(chunk.data) for chunk in chunks)
        self._came.set()

    @property
    def full(self) -> bool:
        """Whether nothing more should be put for now."""
        return self._bytes >= MAILBOX_BYTES

    @property
    def empty(self) -> bool:
        """Whether nothing waits."""
        return not self._chunks

    def take(self) -> list[Chunk]:
        """Return what waits."""
        self._came.clear()
        with self._lock:
            taken, self._chunks, self._bytes = self._chunks, [], 0
        return taken

    def wait(self, seconds: float) -> None:
        """Return when something waits, or somebody called `wake`, or after that time."""
        self._came.wait(seconds)

    def wake(self) -> None:
        """End a `wait`."""
        self._came.set()

    def follow(self, stream: StreamKey, position: Callable[[], int | None]) -> None:
        """Note a stream; see `base.Feed.follow`."""
        with self._lock:
            self._followed[stream] = position
            self._new.add(stream)

    def miss(self, stream: StreamKey) -> None:
        """Note that a stream has to be looked for."""
        with self._lock:
            if stream in self._followed:
                self._missed.add(stream)

    def followed(self) -> dict[StreamKey, Callable[[], int | None]]:
        """Return all streams that are followed, and forget which were new."""
        with self._lock:
            self._new.clear()
            return dict(self._followed)

    def new(self) -> set[StreamKey]:
        """Return the streams that came to be followed since this or `followed` was asked."""
        with self._lock:
            new, self._new = self._new, set()
            return new

    def missed(self) -> set[StreamKey]:
        """Return the streams to look for, once."""
        with self._lock:
            missed, self._missed = self._missed, set()
            return missed

    def position(self, stream: StreamKey) -> Callable[[], int | None]:
        """Return what asks the store for the position that a stream notes."""
        return self._followed[stream]
