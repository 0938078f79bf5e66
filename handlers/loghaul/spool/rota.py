"""Reads all writers of a root in turn: what a worker or a shipper takes from the spool.

Promises: however many directories there are, `max_open` are open at a time, the newest and the
oldest in turn, and none keeps its place for long while others wait; so live lines do not stand
behind an old backlog. A directory goes when its writer has ended and all of it was released. One
that cannot be read is reported, left as it is, and tried again. What was given and not released is
given again to whoever makes the next rota of the root.
"""

from __future__ import annotations

import time
from collections import deque
from pathlib import Path
from typing import Callable, NamedTuple, Optional

from loghaul.chunk import Chunk
from loghaul.errors import SpoolError
from loghaul.spool.cutter import READ_BYTES, Cutter
from loghaul.spool.directories import abandoned, writers
from loghaul.spool.format import Position
from loghaul.spool.reader import SpoolReader

#: Directories read at the same time.
MAX_OPEN = 64
#: Seconds: how long a place is kept while others wait; between looks for new directories, for
#: abandoned ones, and at one that could not be read.
TURN, RESCAN, SWEEP, MEND = 1.0, 0.1, 2.0, 30.0


class Follower:
    """A writer's directory, from when it is seen until it is gone.

    number     never used again
    given      the last position that went out with a chunk; None: none did
    resume     where to go on after its place was taken
    """

    def __init__(self, path: Path, number: int) -> None:
        self.path, self.number = path, number
        self.given: Optional[Position] = None
        self.released: Optional[Position] = None
        self.ended = False
        self.opened_at = self.retry_at = 0.0
        self.dry_at = -1.0
        self._resume: Optional[Position] = None
        self._reader: Optional[SpoolReader] = None
        self._cutter: Optional[Cutter] = None

    @property
    def done(self) -> bool:
        """Whether everything of it was given and released."""
        return self.ended and self.released == self.given

    def open(self, now: float) -> None:
        """Open it where it was left. Raises SpoolError."""
        self._reader = SpoolReader(self.path, self._resume)
        self._cutter = Cutter(self._reader)
        self.opened_at = now

    def read(self, now: float, flush: bool = False) -> list[tuple[Chunk, Position]]:
        """Return the chunks that are ready; notes when there was nothing more to read."""
        assert self._reader is not None and self._cutter is not None
        before = self._reader.position
        chunks = self._cutter.chunks(int(now * 1e6), flush)
        after = self._reader.position
        came = after.offset - before.offset if after.segment == before.segment else READ_BYTES
        if came < READ_BYTES // 2 and self._cutter.idle:
            # The reader stops short of what it may take only where there is no more.
            self.dry_at = now
        if chunks:
            self.given = chunks[-1][1]
        if self._reader.ended and self._cutter.idle:
            self.ended = True
            if self.done:
                self.release(self.given)
        return chunks

    def close(self, resume: bool = False) -> None:
        """Give up the descriptor; the reader stays for `release`."""
        if self._reader is not None:
            if resume:
                self._resume = self._reader.position
            self._reader.close()
        self._cutter = None

    def release(self, position: Optional[Position]) -> None:
        """Make a position durable; a directory that is done goes. Raises OSError."""
        self.released = position
        if self._reader is None:
            return
        if self.done:
            position = self._reader.position
        if position is not None:
            self._reader.release(position)


class Given(NamedTuple):
    """Chunks of one writer, in order, each with the position to release when it is safe."""

    follower: Follower
    chunks: list[tuple[Chunk, Position]]


class Rota:
    """The writers of a root, which need not exist. `note` hears of what cannot be read."""

    def __init__(
        self,
        root: Path,
        *,
        max_open: int = MAX_OPEN,
        clock: Callable[[], float] = time.monotonic,
        note: Callable[..., None] = lambda event, **fields: None,
    ) -> None:
        self.root, self._max_open, self._clock, self._note = root, max_open, clock, note
        self._followers: dict[str, Follower] = {}
        self._open: deque[Follower] = deque()
        self._waiting: deque[Follower] = deque()
        self._newest = False
        self._number = 0
        self._scanned_at = self._swept_at = float("-inf")
        self._scan_seconds = self._sweep_seconds = 0.0

    def read(self, max_bytes: int, flush: bool = False) -> list[Given]:
        """Return about `max_bytes` of chunks at most, no writer keeping the others waiting.

        flush    also what is not a full chunk yet
        """
        now = self._clock()
        self._scan(now)
        found: list[Given] = []
        self._take_turns(now, found)
        for _ in range(len(self._open) if max_bytes > 0 else 0):
            follower = self._open[0]
            max_bytes -= self._read(follower, now, flush, found)
            if self._open and self._open[0] is follower:
                self._open.rotate(-1)
            if max_bytes <= 0:
                break
        return found

    def retire(self) -> list[Follower]:
        """Forget the directories that are done and gone; return them."""
        gone = []
        for name, follower in list(self._followers.items()):
            if follower.done and not follower.path.exists():
                del self._followers[name]
                gone.append(follower)
        return gone

    def dry_since(self, moment: float) -> bool:
        """Whether everything that was in the spool at a moment of the clock has been given."""
        if self._scanned_at < moment or self._swept_at < moment:
            self._scanned_at = self._swept_at = float("-inf")
            return False
        return all(
            follower.ended or follower.dry_at >= moment or follower.retry_at > self._clock()
            for follower in self._followers.values()
        )

    def close(self) -> None:
        """Close everything. Idempotent."""
        for follower in self._followers.values():
            follower.close()
        self._open.clear()
        self._waiting.clear()

    @property
    def live(self) -> int:
        """Directories that may still get bytes, or hold some that are not released."""
        return sum(not follower.done for follower in self._followers.values())

    # -- inside

    def _read(self, follower: Follower, now: float, flush: bool, found: list[Given]) -> int:
        try:
            chunks = follower.read(now, flush)
        except (SpoolError, OSError) as error:
            self._set_aside(follower, now, error)
            return 0
        if chunks:
            found.append(Given(follower, chunks))
        if follower.ended:
            self._leave(follower)
        return sum(len(chunk.data) + 64 for chunk, _ in chunks)

    def _scan(self, now: float) -> None:
        """Look for abandoned writers and for new directories."""
        if now - self._swept_at >= max(SWEEP, 50 * self._sweep_seconds):
            self._swept_at = now
            self._sweep()
            self._sweep_seconds = self._clock() - now
        if now - self._scanned_at < max(RESCAN, 50 * self._scan_seconds):
            return
        self._scanned_at, begun = now, self._clock()
        for path in writers(self.root):
            if path.name not in self._followers:
                self._number += 1
                follower = self._followers[path.name] = Follower(path, self._number)
                self._waiting.append(follower)
        self._scan_seconds = self._clock() - begun

    def _sweep(self) -> None:
        try:
            abandoned(self.root)
        except (SpoolError, OSError) as error:
            self._note("ends of abandoned writers cannot be written", error=str(error))

    def _take_turns(self, now: float, found: list[Given]) -> None:
        """Fill the places, from both ends of the queue; take one from who had it for long."""
        ready = sum(follower.retry_at <= now for follower in self._waiting)
        if ready and len(self._open) >= self._max_open:
            held = [f for f in self._open if now - f.opened_at >= TURN]
            idle = sorted(held, key=lambda f: (f.dry_at < f.opened_at, f.opened_at))
            for follower in idle[: max(1, self._max_open // 8)]:
                self._park(follower, now, found)
        for _ in range(len(self._waiting)):
            if len(self._open) >= self._max_open:
                break
            self._newest = not self._newest
            follower = self._waiting.pop() if self._newest else self._waiting.popleft()
            if follower.retry_at > now:
                self._waiting.appendleft(follower)
                continue
            try:
                follower.open(now)
                self._open.append(follower)
            except (SpoolError, OSError) as error:
                self._set_aside(follower, now, error)

    def _park(self, follower: Follower, now: float, found: list[Given]) -> None:
        """Take its place away: what it holds back is given, so that it can go on anywhere."""
        try:
            chunks = follower.read(now, True)
        except (SpoolError, OSError) as error:
            self._set_aside(follower, now, error)
            return
        if chunks:
            found.append(Given(follower, chunks))
        self._open.remove(follower)
        follower.close(resume=True)
        if not follower.ended:
            self._waiting.appendleft(follower)

    def _set_aside(self, follower: Follower, now: float, error: Exception) -> None:
        self._leave(follower)
        if not follower.path.exists():
            follower.ended, follower.released = True, follower.given
            return
        self._note("a writer's directory cannot be read", path=str(follower.path), error=str(error))
        follower.retry_at = now + MEND
        if follower not in self._waiting:
            self._waiting.appendleft(follower)

    def _leave(self, follower: Follower) -> None:
        follower.close()
        if follower in self._open:
            self._open.remove(follower)


__all__ = ["MAX_OPEN", "Follower", "Given", "Rota"]
