"""The topic as a feed: its partitions read beside the workers, in a thread with a loop of its own.

Chunks wait in a mailbox that is bounded: a terminal that is slow makes the reading slow, not the
memory large. A connection that fails is made anew, with the reason in `trouble` meanwhile; it goes
on behind what it had, or behind what the workers have stored by then.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress

from loghaul.chunk import Chunk, StreamKey
from loghaul.errors import TransportError
from loghaul_ingest.feeds.connection import Connection
from loghaul_ingest.feeds.course import Course
from loghaul_ingest.feeds.mailbox import Mailbox
from loghaul_ingest.feeds.reading import Reading

#: Pauses between attempts to connect.
SHORTEST_SECONDS, LONGEST_SECONDS = 0.5, 5.0
CLOSE_SECONDS = 3.0
#: Nothing comes for so long: the store may have answered meanwhile.
MOMENT_SECONDS = 0.2


class TopicFeed:
    """See `base.Feed`. `connect` makes a connection, unopened."""

    settle_seconds, patience_seconds = 2.0, 60.0
    abandoned = False

    def __init__(self, connect: Callable[[], Connection], run: str) -> None:
        self._connect, self._run = connect, run
        self._mailbox = Mailbox()
        self._course = Course()
        self._reading: Reading | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        self.beginnings = 0
        self.trouble = ""
        self._thread = threading.Thread(target=self._main, daemon=True, name="loghaul-tail")
        self._thread.start()

    # -- base.Feed

    @property
    def live(self) -> bool:
        """See `base.Feed`."""
        return self._reading is not None

    @property
    def current(self) -> bool:
        """See `base.Feed`."""
        reading = self._reading
        return reading is not None and reading.current and self._mailbox.empty

    @property
    def expecting(self) -> bool:
        """See `base.Feed`: a run of which the topic has nothing either is not waited for."""
        return not self.current

    def follow(self, stream: StreamKey, position: Callable[[], int | None]) -> None:
        """See `base.Feed`."""
        self._mailbox.follow(stream, position)

    def miss(self, stream: StreamKey) -> None:
        """See `base.Feed`."""
        self._mailbox.miss(stream)

    def take(self) -> list[Chunk]:
        """See `base.Feed`."""
        return self._mailbox.take()

    def wait(self) -> None:
        """See `base.Feed`."""
        self._mailbox.wait(MOMENT_SECONDS)

    def close(self) -> None:
        """See `base.Feed`. A broker that does not answer is not waited for."""
        self._closed = True
        loop, task = self._loop, self._task
        if loop is not None and task is not None:
            with suppress(RuntimeError):  # it has ended by itself
                loop.call_soon_threadsafe(task.cancel)
        self._thread.join(CLOSE_SECONDS)

    # -- the thread

    def _main(self) -> None:
        with suppress(asyncio.CancelledError):
            asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        # aiokafka's objects complain of connections that failed; `trouble` says it.
        self._loop.set_exception_handler(lambda loop, context: None)
        pause = SHORTEST_SECONDS
        while not self._closed:
            try:
                await self._session()
            except Exception as error:  # noqa: BLE001 - the store has everything too
                pause = min(2 * pause, LONGEST_SECONDS) if self.trouble else SHORTEST_SECONDS
                ours = isinstance(error, TransportError)
                self.trouble = str(error) if ours else f"the topic cannot be read: {error!r}"
                self._mailbox.wake()
                await asyncio.sleep(pause)

    async def _session(self) -> None:
        """Read until something fails."""
        connection = self._connect()
        self._course = Course(self._course)
        reading = Reading(connection, self._course, self._run, self._mailbox)
        try:
            await reading.begin()
            self._reading = reading
            self.beginnings += 1
            self._mailbox.wake()
            while not self._closed:
                await reading.step()
                if reading.works:
                    self.trouble = ""
        finally:
            self._reading = None
            await connection.close()
