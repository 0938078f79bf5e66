"""Fluent Bit's kafka output, `format json`.

    {"@timestamp":1763937600.123456,"log":"step 1\\n","stream":"stdout","kubernetes":{...}}

The time is epoch seconds by default, or text with `timestamp_format iso8601_ns`. Text stands in
`log`; docker's parser leaves its newline there, CRI's says in `_p` whether it is a part. Without
`multiline.parser docker, cri` the parts of docker's long lines cannot be told from lines, and each
becomes one. https://docs.fluentbit.io/manual/pipeline/outputs/kafka
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from loghaul_ingest.foreign import said
from loghaul_ingest.foreign.container import entry, remembered
from loghaul_ingest.foreign.entry import Entry, Producer

_TIMES = ("time", "@timestamp", "timestamp", "date")
_TEXTS = ("log", "message", "MESSAGE")
#: Keys that are no words of the producer: of the collector, or read here.
_WHO = frozenset(
    {"kubernetes", "container_id", "container_name", "host", "hostname"}
    | {"filename", "file", "path", *said.RUN_KEYS, *said.EXPERIMENT_KEYS, *said.RANK_KEYS}
)
_READ = _WHO | {*_TIMES, "stream", "_p", "logtag", "source", "tag"}


def fits(found: dict[str, Any]) -> bool:
    """Whether a JSON object is a record of Fluent Bit."""
    if not isinstance(found.get("log"), str):
        return False
    pod = said.as_mapping(found.get("kubernetes"))
    return "pod_name" in pod or any(key in found for key in (*_TIMES, "stream", "container_id"))


def entries(found: dict[str, Any], producer: Producer, arrived_us: int) -> list[Entry]:
    """Return the entry of a record."""
    text_key = next((key for key in _TEXTS if isinstance(found.get(key), str)), None)
    time_us = next((t for t in (said.moment(found.get(key)) for key in _TIMES) if t), None)
    rest = {key: value for key, value in found.items() if key not in _READ and key != text_key}
    partial = (found.get("_p") or found.get("logtag")) == "P"
    text = found[text_key] if text_key else ""
    who = _producer({key: found[key] for key in found if key in _WHO}, producer)
    return [entry(who, found.get("stream"), text, time_us, rest, arrived_us, partial)]


@remembered
def _producer(found: Mapping[str, Any], given: Producer) -> Producer:
    pod = said.as_mapping(found.get("kubernetes"))
    places = (pod.get("labels"), pod.get("annotations"), found)
    return replace(
        given,
        run=said.first_run(*places) or given.run,
        experiment=said.first_text(said.EXPERIMENT_KEYS, *places) or given.experiment,
        rank=said.first_rank(*places),
        node=said.name(pod.get("host")) or given.node,
        host=said.first_text(("host", "hostname"), found) or said.name(pod.get("host")),
        namespace=said.name(pod.get("namespace_name")),
        pod=said.name(pod.get("pod_name")),
        container=said.name(pod.get("container_name"))
        or (said.name(found.get("container_name")) or "").lstrip("/")
        or None,
        container_id=said.first_text(("docker_id", "container_id"), pod, found),
        file=said.first_text(("filename", "file", "path"), found),
    )
