"""JSON lines with ECS names, as `loghaul.JsonFormatter` and the ecs-logging libraries write them.

{"@timestamp":"2026-11-23T22:26:47.123Z","log.level":"info","message":"step 1",...}
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from loghaul.chunk import EVENTS
from loghaul_ingest import records
from loghaul_ingest.foreign import said
from loghaul_ingest.foreign.container import structured
from loghaul_ingest.foreign.entry import Entry, Producer
from loghaul_ingest.foreign.line import line

_PRODUCER = ("run.id", "run.node", "run.rank", "host.name", "experiment.name", "service.name")


def fits(found: dict[str, Any]) -> bool:
    """Whether a JSON object is an event with ECS names."""
    return (
        isinstance(found.get("message"), str) and said.moment(found.get("@timestamp")) is not None
    )


def entries(found: dict[str, Any], producer: Producer, arrived_us: int) -> list[Entry]:
    """Return the record of an event."""
    flat = dict(records.flatten(found))
    time_us = said.moment(flat.pop("@timestamp", None))
    message = records.as_text(flat.pop("message", ""))
    who = replace(
        producer,
        run=said.first_run(flat) or producer.run,
        experiment=said.first_text(said.EXPERIMENT_KEYS, flat) or producer.experiment,
        rank=said.first_rank(flat),
        node=said.first_text(("run.node", "kubernetes.node.name"), flat) or producer.node,
        host=said.first_text(("host.name", "host.hostname"), flat),
        namespace=said.name(flat.get("kubernetes.namespace")),
        pod=said.name(flat.get("kubernetes.pod.name")),
        container=said.first_text(("kubernetes.container.name", "container.name"), flat),
        container_id=said.name(flat.get("container.id")),
        service=said.name(flat.get("service.name")),
    )
    rest = {k: v for k, v in flat.items() if k not in _PRODUCER and k != "ecs.version"}
    data = line(structured(message, time_us, rest), arrived_us)
    return [Entry(who, "records", EVENTS, data, time_us)]
