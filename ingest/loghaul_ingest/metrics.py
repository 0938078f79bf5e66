"""Every metric of loghaul, by name: what kind it is, what it says, what its labels are.

Names begin with loghaul_ and carry their unit; a counter's name gets its _total when it is shown.
Memory and descriptors have the names that every Prometheus client gives them
(process_resident_memory_bytes). Counters begin at 0 with the process. The dashboard and the rules
under deploy/ are held to this table by a test.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from loghaul_ingest.backlog import Backlog
from loghaul_ingest.retention import Retention

COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"


class Metric(NamedTuple):
    """Kind, help, names of the labels."""

    kind: str
    help: str
    labels: tuple[str, ...] = ()


#: A number, or one per value of the label (per tuple of them where there are several).
Value = float | Mapping[Any, float]
Sample = tuple[str, Value]

METRICS = {
    "loghaul_alive": Metric(GAUGE, "1: /healthz says yes."),
    "loghaul_ready": Metric(GAUGE, "1: /readyz says yes."),
    "loghaul_spool_bytes": Metric(GAUGE, "Bytes of the spool on disk."),
    "loghaul_spool_max_bytes": Metric(GAUGE, "Most that the spool may hold."),
    "loghaul_spool_writers": Metric(GAUGE, "Writers that have a folder in the spool."),
    "loghaul_spool_oldest_seconds": Metric(GAUGE, "Age of the oldest byte not moved on."),
    "loghaul_lost_bytes": Metric(COUNTER, "Bytes known never to come.", ("reason",)),
    "loghaul_lag_records": Metric(GAUGE, "Records that were not fetched yet.", ("partition",)),
    "loghaul_lag_seconds": Metric(GAUGE, "Age of what is fetched just now; 0: nothing waits."),
    "loghaul_shipper_chunks": Metric(COUNTER, "Chunks cut from the spool and handed over."),
    "loghaul_shipper_records": Metric(COUNTER, "Records that the transport acknowledged."),
    "loghaul_shipper_acked_bytes": Metric(COUNTER, "Bytes that the transport acknowledged."),
    "loghaul_shipper_retries": Metric(COUNTER, "Connections that failed.", ("reason",)),
    "loghaul_shipper_dropped_bytes": Metric(
        COUNTER, "Bytes on disk dropped for room.", ("reason",)
    ),
    "loghaul_worker_chunks": Metric(COUNTER, "Chunks fetched."),
    "loghaul_worker_fetched_bytes": Metric(COUNTER, "Bytes of logs fetched."),
    "loghaul_worker_repeated_bytes": Metric(COUNTER, "Bytes that came again, dropped."),
    "loghaul_worker_deleted_bytes": Metric(COUNTER, "Bytes of deleted runs, dropped."),
    "loghaul_worker_blocks": Metric(COUNTER, "Blocks created in the store."),
    "loghaul_worker_events": Metric(COUNTER, "Lines and records stored."),
    "loghaul_worker_stored_bytes": Metric(COUNTER, "Bytes of logs stored, uncompressed."),
    "loghaul_worker_conflicts": Metric(COUNTER, "Blocks that another worker had created."),
    "loghaul_worker_holes": Metric(COUNTER, "Holes met in streams that are stored."),
    "loghaul_worker_gaps": Metric(COUNTER, "Ranges of streams known never to come."),
    "loghaul_worker_dead_letters": Metric(COUNTER, "Records and blocks put aside for good."),
    "loghaul_worker_retries": Metric(COUNTER, "Failures that are tried again.", ("at", "reason")),
    "loghaul_worker_notes": Metric(COUNTER, "Events in the worker's own log.", ("event",)),
    "loghaul_worker_partitions": Metric(GAUGE, "Partitions of the source that are ours."),
    "loghaul_worker_open_blocks": Metric(GAUGE, "Blocks not sealed yet."),
    "loghaul_worker_held_bytes": Metric(GAUGE, "Bytes fetched and not durable yet."),
    "loghaul_worker_removed_runs": Metric(COUNTER, "Runs removed by retention.", ("reason",)),
    "loghaul_store_bytes": Metric(GAUGE, "Bytes of the store, when retention last looked."),
    "loghaul_worker_write_seconds": Metric(HISTOGRAM, "Time of a bulk write.", ("outcome",)),
}


def of_vitals(alive: str, ready: str) -> Iterator[Sample]:
    """Yield what /healthz and /readyz say ("": yes), as numbers."""
    yield "loghaul_alive", float(not alive)
    yield "loghaul_ready", float(not ready)


def of_retention(retention: Retention | None) -> Iterator[Sample]:
    """Yield what was removed, and how large the store was, once somebody has looked."""
    yield "loghaul_worker_removed_runs", retention.removed if retention else {}
    size = retention.store_bytes if retention else None
    yield "loghaul_store_bytes", {} if size is None else size


def of_backlog(backlog: Backlog) -> Iterator[Sample]:
    """Yield what waits in a spool."""
    found = backlog.look()
    yield "loghaul_spool_bytes", found.bytes
    yield "loghaul_spool_writers", found.writers
    yield "loghaul_spool_oldest_seconds", found.oldest_seconds
    if backlog.max_bytes is not None:
        yield "loghaul_spool_max_bytes", backlog.max_bytes
