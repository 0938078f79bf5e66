"""Watching a shipper: it tells once per second what it does, and its spool tells what waits."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from loghaul.config import Settings
from loghaul_ingest.backlog import Backlog
from loghaul_ingest.endpoint import Answers, Endpoint
from loghaul_ingest.exposition import Registry
from loghaul_ingest.metrics import Sample, of_backlog, of_vitals
from loghaul_ingest.vitals import PATIENCE_SECONDS, ROUND_SECONDS, Vitals


@contextmanager
def watching(listen: str | None, settings: Settings) -> Iterator[Callable[..., None]]:
    """Serve /metrics, /healthz and /readyz at an address while inside; gives what is to be told.

    None: nothing is served. Raises as `watch.watching`.
    """
    if listen is None:
        yield lambda **status: None
        return
    watch = ShipWatch(Backlog(settings.spool, settings.spool_max_bytes))
    with Endpoint(listen, watch.answers()):
        yield watch.tell


class ShipWatch:
    """Watches one shipper; `tell` is called by its loop, the rest by who asks."""

    def __init__(
        self,
        backlog: Backlog,
        *,
        patience_seconds: float = PATIENCE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises UsageError where prometheus-client is not installed."""
        # It tells nothing while it connects, which takes as long as brokers may take to answer.
        self.vitals = Vitals(patience_seconds, clock, pulse_seconds=ROUND_SECONDS)
        self._patience, self._backlog = patience_seconds, backlog
        self._told: dict[str, Any] = {}
        self._retries: Counter[str] = Counter()
        self._registry = Registry(self._samples)

    def tell(self, **status: Any) -> None:
        """Hear what the shipper does: its counts, whether it ever was connected, and in `failing`
        why it cannot ship, "" when it can.
        """
        before, self._told = self._told, status
        self.vitals.beat(status["records"] + status["chunks"], waiting=False)
        again = status["retries"] - before.get("retries", 0)
        if again:
            self._retries["refused" if status["refused"] else "failed"] += again
        if status["failing"]:
            self.vitals.failed("shipping", status["failing"])
        elif status["connected"]:
            self.vitals.worked("shipping")

    def answers(self) -> Answers:
        """Return what an endpoint serves."""
        return Answers(self._registry.exposition, self.vitals.alive, self.ready)

    def ready(self) -> str:
        """Return why nothing is being shipped; "" when it is, or there is nothing to ship."""
        if reason := self.vitals.ready():
            return reason
        if not self._told["connected"]:
            return "not connected to its transport yet"
        oldest = self._backlog.look().oldest_seconds
        if min(oldest, self.vitals.still_seconds()) > self._patience:
            return f"the oldest byte in the spool has waited for {oldest:.0f} s, and nothing moves"
        return ""

    def _samples(self) -> Iterator[Sample]:
        told = self._told
        yield from of_vitals(self.vitals.alive(), self.ready())
        yield from of_backlog(self._backlog)
        yield "loghaul_shipper_chunks", told.get("chunks", 0)
        yield "loghaul_shipper_records", told.get("records", 0)
        yield "loghaul_shipper_acked_bytes", told.get("bytes", 0)
        yield "loghaul_shipper_retries", self._retries
        yield "loghaul_shipper_dropped_bytes", {"spool full": told.get("dropped_bytes", 0)}
