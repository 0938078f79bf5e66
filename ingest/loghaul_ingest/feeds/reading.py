"""One connection's worth of reading a topic for a follower. It ends with the first failure.

Of a record only the headers are looked at until its run is known to be the one that is followed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from loghaul.chunk import Chunk, StreamKey, decode, record_key
from loghaul.errors import ChunkError, TransportError
from loghaul_ingest.asking import beside
from loghaul_ingest.feeds.connection import Connection, Raw
from loghaul_ingest.feeds.course import RECENT_SECONDS, Course, candidates
from loghaul_ingest.feeds.mailbox import Mailbox

POLL_SECONDS, FULL_SECONDS = 0.2, 0.02
#: So often it is asked whether the brokers answer, where nothing came. Records wait and none come
#: for so long: the connection is made anew.
LOOK_SECONDS, STALL_SECONDS = 5.0, 15.0
#: Nothing came and nothing failed for so long: it is a topic that may be read.
PROOF_SECONDS = 1.0
#: A stream is looked for this often at most; and so many are asked for before reading begins.
MISSED_SECONDS, MOST_ASKED = 10.0, 64


class Reading:
    """Puts chunks of a run into a mailbox. `begin`, then `step` by step; TransportError ends it."""

    def __init__(
        self,
        connection: Connection,
        course: Course,
        run: str,
        mailbox: Mailbox,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection, self._course, self._mailbox = connection, course, mailbox
        self._run, self._clock = run.encode("utf-8", "surrogateescape"), clock
        self._ends: dict[int, int] = {}
        self._sought: dict[StreamKey, float] = {}
        self._told = False
        self._began: dict[int, int] = {}
        self._began_at = self._came_at = self._looked_at = clock()

    @property
    def works(self) -> bool:
        """Whether the brokers let it read: they say so late, when it has long begun."""
        return self._came_at > self._began_at or self._clock() - self._began_at > PROOF_SECONDS

    @property
    def current(self) -> bool:
        """Whether all that was there at the beginning was put."""
        return not self._ends

    async def begin(self) -> None:
        """Connect, and find where to begin."""
        await self._connection.open()
        await self._start()

    async def step(self) -> None:
        """Read what there is; wait a moment where that is nothing."""
        if self._mailbox.full:
            await asyncio.sleep(FULL_SECONDS)
            return
        found = await self._connection.records(POLL_SECONDS)
        self._sort(found)
        for number in self._course.expect(self._mailbox.new()) & self._course.resting:
            await self._wake(number)
        for stream in self._mailbox.missed():
            await self._seek(stream)
        await self._look_at_ends(bool(found))
        await self._look_after()

    # -- inside

    async def _start(self) -> None:
        """Read all partitions, from where they may hold what is not to be seen in the store."""
        self._course.grow(self._connection.count)
        numbers = range(self._course.count)
        self._course.expect(self._mailbox.followed())
        starts = await self._starts(numbers)
        self._connection.read(starts)
        self._connection.rest(self._course.resting)

    async def _starts(self, numbers: Sequence[int]) -> dict[int, int]:
        committed = await self._connection.committed(numbers)
        bounds = await self._connection.bounds(numbers, RECENT_SECONDS)
        self._told = committed is not None
        unknown = [n for n in numbers if (committed or {}).get(n) is None]
        noted = await self._noted(unknown)
        starts = {n: self._course.start(n, committed, noted.get(n), bounds[n]) for n in numbers}
        self._began.update(starts)
        self._ends.update({n: bounds[n].end for n in numbers if starts[n] < bounds[n].end})
        return starts

    async def _noted(self, numbers: Iterable[int]) -> dict[int, int]:
        """Ask for the lowest position noted of the streams that should be in partitions."""
        wanted = set(numbers)
        noted: dict[int, int] = {}
        followed = [
            (candidates(key, self._course.count)[0], position)
            for key, position in self._mailbox.followed().items()
        ]
        for number, position in [one for one in followed if one[0] in wanted][:MOST_ASKED]:
            at = await _asked(position)
            if at is not None:
                noted[number] = min(at, noted.get(number, at))
        return noted

    async def _wake(self, number: int) -> None:
        """Read a partition again that was left off."""
        self._course.resting.discard(number)
        self._connection.wake(number, (await self._starts([number]))[number])

    def _sort(self, found: Mapping[int, Sequence[Raw]]) -> None:
        """Put what is of the run into the mailbox, and count what is not."""
        chunks: list[Chunk] = []
        foreign: dict[int, int] = {}
        for number, records in found.items():
            for record in records:
                if _run_of(record) != self._run:
                    foreign[number] = foreign.get(number, 0) + len(record.value)
                    continue
                try:
                    chunk = decode(record.value, list(record.headers))
                except ChunkError:
                    continue  # a worker makes a dead letter of it, and what lacks a gap
                self._course.seen(chunk.key, number)
                chunks.append(chunk)
            self._course.next[number] = records[-1].offset + 1
        if found:
            self._came_at = self._clock()
        if chunks:
            self._mailbox.put(chunks)
        if left_off := self._course.overheard(foreign, self._clock()):
            self._connection.rest(left_off)

    async def _seek(self, stream: StreamKey) -> None:
        """Find the partition of a stream by the position that the store notes of it."""
        now = self._clock()
        if now - self._sought.get(stream, float("-inf")) < MISSED_SECONDS:
            return
        self._sought[stream] = now
        home = self._course.homes.get(stream)
        if home is not None and self._told:
            return  # what lies before the beginning is in the store, if anywhere
        position = await _asked(self._mailbox.position(stream))
        if position is None:
            return
        if home is None:
            numbers = candidates(stream, self._course.count)
            home = await self._connection.holder(record_key(stream), position, numbers)
        if home is None:
            return
        self._course.seen(stream, home)
        if home in self._course.resting:
            await self._wake(home)
        elif not self._told and position < self._began.get(home, 0):
            self._began[home] = self._course.next[home] = position
            self._connection.seek(home, position)

    async def _look_at_ends(self, came: bool) -> None:
        """Find out whether the ends that there were at the beginning are reached."""
        for number, end in list(self._ends.items()):
            passed = self._course.next.get(number, 0) >= end or number in self._course.resting
            if not passed and not came:
                # Offsets that no record has, as the markers of transactions.
                passed = await self._connection.position(number) >= end
            if passed:
                del self._ends[number]
                self._mailbox.wake()

    async def _look_after(self) -> None:
        """Take up partitions that were added; notice brokers that do not answer."""
        now = self._clock()
        if now - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = now
        if self._connection.count > self._course.count:
            await self._start()
        if now - self._came_at < LOOK_SECONDS:
            return
        awake = [n for n in range(self._course.count) if n not in self._course.resting]
        ends = await self._connection.ends(awake)
        if now - self._came_at >= STALL_SECONDS:
            for number, end in ends.items():
                if await self._connection.position(number) < end:
                    raise TransportError(f"records wait in {self._connection.address}; none come")


async def _asked(position: Callable[[], int | None]) -> int | None:
    """Return what the store says; None where it says nothing."""
    try:
        return await asyncio.wrap_future(beside(position))
    except Exception:  # noqa: BLE001 - a store that is away says nothing
        return None


def _run_of(record: Raw) -> bytes | None:
    return next((value for name, value in record.headers if name == "run"), None)
