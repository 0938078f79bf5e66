"""A worker as a process serves it: its steps, and beside them signals, retention and reports.

What is particular to a home or to a group of Kafka stays with `worker` and `group`.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict

from loghaul.config import Settings
from loghaul.journal import Journal
from loghaul_ingest.retention import Retention
from loghaul_ingest.shell import Worker
from loghaul_ingest.watch import Watch

#: Between reports of what was done, while something is.
REPORT_SECONDS = 60.0
#: A thread that writes asks for the interpreter some times per block; with Python's 5 ms it would
#: wait for that longer than it writes.
SWITCH_SECONDS = 0.0005


class Service:
    """One worker, for one event loop.

    busy_at   when there was something to do last, by the monotonic clock
    closes    what is closed at the end, in this order
    """

    def __init__(
        self,
        settings: Settings,
        worker: Worker,
        note: Journal,
        closes: Sequence[Callable[[], Awaitable[None]]],
        watch: Watch | None = None,
    ) -> None:
        sys.setswitchinterval(SWITCH_SECONDS)
        self.worker = worker
        self._note, self._closes = note, closes
        self._retention = Retention(settings, note)
        if watch is not None:
            watch.retention = self._retention
        self.busy_at = self._reported_at = time.monotonic()

    def begin(self, source: str) -> None:
        """Note the start; from here on SIGTERM and SIGINT stop the worker."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.worker.stop)
        self._note("worker started", source=source)

    async def step(self, wait_seconds: float) -> None:
        """One step of the worker, and what is due beside it."""
        worker = self.worker
        fetched = await worker.step(wait_seconds)
        self._retention.step()
        now = time.monotonic()
        if fetched or not worker.core.settled or worker.working:
            self.busy_at = now
        if now - self._reported_at >= REPORT_SECONDS and now - self.busy_at < REPORT_SECONDS:
            self._reported_at = now
            self._report()

    async def finish(self) -> None:
        """Store what was taken, and report."""
        await self.worker.finish()
        self._report()

    async def close(self) -> None:
        """Give everything back."""
        await self._retention.close()
        for close in self._closes:
            await close()

    def _report(self) -> None:
        worker = self.worker
        counts = asdict(worker.core.counts)
        self._note("worker so far", **counts, retries=worker.retries, failing=worker.failing)
