"""Vector's kafka sink, `encoding.codec = "json"`: kubernetes_logs, docker_logs, file, journald.

    {"message":"step 1","stream":"stdout","timestamp":"2026-11-23T22:26:47.123456789Z",
     "source_type":"kubernetes_logs","kubernetes":{"pod_name":"train-0","pod_labels":{...}}}

Vector merges partial lines by itself. A run's id may also be set by its `remap`, as `.run.id`.
https://vector.dev/docs/reference/configuration/sources/kubernetes_logs/
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from loghaul_ingest.foreign import said
from loghaul_ingest.foreign.container import entry, remembered
from loghaul_ingest.foreign.entry import Entry, Producer

#: Keys that are no words of the producer: of the collector, or read here.
_WHO = frozenset(
    {"kubernetes", "file", "host", "container_id", "container_name", "label", "run"}
    | {*said.RUN_KEYS, *said.EXPERIMENT_KEYS, *said.RANK_KEYS}
)
_READ = _WHO | {
    *("message", "timestamp", "source_type", "stream", "offset"),
    *("container_created_at", "image", "experiment"),
}


def fits(found: dict[str, Any]) -> bool:
    """Whether a JSON object is an event of Vector."""
    if not isinstance(found.get("message"), str):
        return False
    pod = said.as_mapping(found.get("kubernetes"))
    return isinstance(found.get("source_type"), str) or "pod_labels" in pod


def entries(found: dict[str, Any], producer: Producer, arrived_us: int) -> list[Entry]:
    """Return the entry of an event."""
    message = found.get("message")
    text = message if isinstance(message, str) else ""
    rest = {key: value for key, value in found.items() if key not in _READ}
    time_us = said.moment(found.get("timestamp"))
    return [entry(_producer(found, producer), found.get("stream"), text, time_us, rest, arrived_us)]


@remembered
def _producer(found: Mapping[str, Any], given: Producer) -> Producer:
    pod = said.as_mapping(found.get("kubernetes"))
    run = {"run.id": said.as_mapping(found.get("run")).get("id")}
    labels = (pod.get("pod_labels"), pod.get("pod_annotations"), found.get("label"), found)
    node = said.name(pod.get("pod_node_name"))
    return replace(
        given,
        run=said.first_run(run, *labels) or given.run,
        experiment=said.first_text(said.EXPERIMENT_KEYS, *labels) or given.experiment,
        rank=said.first_rank(*labels),
        node=node or given.node,
        host=said.name(found.get("host")) or node,
        namespace=said.name(pod.get("pod_namespace")),
        pod=said.name(pod.get("pod_name")),
        container=said.first_text(("container_name",), pod, found),
        container_id=said.first_text(("container_id",), pod, found),
        # The file of a container is a place on the node, and changes when it is rotated.
        file=None if pod else said.name(found.get("file")),
    )
