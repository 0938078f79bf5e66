"""The workers of a topic: as many as one likes, anywhere, sharing its partitions as one group.

    serve(settings)              one worker in this process, until stopped
    serve_many(settings, count)  so many processes, until stopped or until one fails
    once(settings)               take what is in the topic now, seal all of it, end

A worker keeps nothing but its log, HOME/worker/log, and dead letters that their topic did not
take.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from loghaul.config import Settings
from loghaul.errors import TransportError
from loghaul.journal import Journal
from loghaul.transports.address import parse
from loghaul_ingest.dead_letters import open_dead_letters
from loghaul_ingest.errors import SourceError, StoreAway, StoreHungUp
from loghaul_ingest.service import Service
from loghaul_ingest.sources.kafka import KafkaSource, Refused
from loghaul_ingest.stack import stack
from loghaul_ingest.stores import open_reader, open_writer
from loghaul_ingest.stores.base import Writer
from loghaul_ingest.watch import Watch, watching

#: First and longest pause between attempts to connect.
SHORTEST_SECONDS, LONGEST_SECONDS = 0.5, 15.0
#: A store that is starting or ending hangs up; after so often it is taken for something else.
DOUBTS = 4
#: How long a worker that is told to end waits for the others to have ended.
STOP_SECONDS = 30.0

Tell = Callable[[str], None]


def serve(settings: Settings, listen: str | None = None, tell: Tell = lambda text: None) -> None:
    """Work until SIGTERM or SIGINT.

    listen   HOST:PORT where /metrics, /healthz and /readyz are served meanwhile
    tell     hears, for whoever watches, why nothing is read yet

    Raises SourceError where only a person can mend it, StoreError when the store cannot be opened;
    brokers and a store that do not answer yet are waited for.
    """
    with watching(listen) as watch:
        asyncio.run(_Member(settings, tell, watch, patient=True).serve())


def once(settings: Settings) -> None:
    """Take in what is in our share of the topic now; alone in its group, that is all of it.

    Raises as `serve`, and SourceError when the brokers cannot be reached.
    """
    asyncio.run(_Member(settings, lambda text: None).once())


def serve_many(settings: Settings, count: int, options: Sequence[str] = ()) -> int:
    """Run so many workers as processes; return the exit code: that of the first that failed.

    When one ends the others are told to end too, so that whoever watches starts all anew.
    """
    command = [sys.executable, "-m", "loghaul_ingest", "ingest", *options]
    processes = [subprocess.Popen(command, stdin=subprocess.DEVNULL) for _ in range(count)]
    stopping: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: stopping.append(number))
    while not stopping and all(process.poll() is None for process in processes):
        time.sleep(0.1)
    failed = [process.returncode for process in processes if process.returncode]
    for process in processes:
        process.terminate()
    until = time.monotonic() + STOP_SECONDS
    for process in processes:
        try:
            process.wait(max(0.1, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if failed:
        return failed[0] if failed[0] > 0 else 128 - failed[0]
    return 0


class _Member:
    """Source, store and worker of one member of the group, for one event loop."""

    def __init__(
        self, settings: Settings, tell: Tell, watch: Watch | None = None, *, patient: bool = False
    ) -> None:
        """`patient`: wait for a store that does not answer just now; a signal ends the process."""
        try:
            address = parse(settings.transport)
        except TransportError as error:
            raise Refused(str(error)) from error
        folder = settings.home / "worker"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._tell = tell
        self._note = Journal(folder / "log")
        self._source = KafkaSource(
            address, settings.group, instance=settings.group_instance, note=self._note
        )
        writer = self._opened(settings.store, patient)
        self._reader = open_reader(settings.store)
        letters = open_dead_letters(settings, watch.note(self._note) if watch else self._note)
        self._worker = stack(
            self._source,
            writer,
            self._reader,
            letters,
            note=self._note,
            watch=watch,
        )
        closes = (self._source.close, letters.close, writer.close)
        self._service = Service(settings, self._worker, self._note, closes, watch)

    def _opened(self, store: str, patient: bool) -> Writer:
        pause, told, doubts = SHORTEST_SECONDS, "", 0
        while True:
            try:
                return open_writer(store)
            except (StoreAway, StoreHungUp) as error:
                doubts += isinstance(error, StoreHungUp)
                if not patient or doubts > DOUBTS:
                    raise
                if str(error) != told:
                    told = str(error)
                    self._tell(f"{told}; trying again")
                self._note("the store does not answer, trying again", error=told)
            time.sleep(pause)
            pause = min(pause * 2, LONGEST_SECONDS)

    async def serve(self) -> None:
        self._service.begin(str(self._source.address))
        try:
            await self._connect()
            while not self._worker.stopping:
                await self._service.step(0.05)
            await self._service.finish()
        finally:
            await self._close()

    async def once(self) -> None:
        try:
            await self._source.open()
            await self._reach_ends()
            await self._worker.drain()
            await self._service.finish()
        finally:
            await self._close()

    async def _reach_ends(self) -> None:
        """Read up to the ends of our share; where that moves meanwhile, of the new one."""
        source, share, ends = self._source, None, {}
        while not self._worker.stopping:
            await self._worker.step(0.02)
            if not source.joined:
                continue
            if share != source.share:
                share = source.share
                ends = await source.ends()
            elif await source.reached(ends):
                return

    async def _connect(self) -> None:
        """Try until the brokers answer; what only a person can mend is raised."""
        pause, told = SHORTEST_SECONDS, ""
        while not self._worker.stopping:
            try:
                return await self._source.open()
            except SourceError as error:
                if error.permanent:
                    raise
                if str(error) != told:
                    told = str(error)
                    self._tell(f"{told}; trying again")
                self._note("the brokers cannot be reached, trying again", error=told)
            until = time.monotonic() + pause
            while time.monotonic() < until and not self._worker.stopping:
                await asyncio.sleep(0.05)
            pause = min(pause * 2, LONGEST_SECONDS)

    async def _close(self) -> None:
        await self._service.close()
        self._reader.close()


__all__ = ["once", "serve", "serve_many"]
