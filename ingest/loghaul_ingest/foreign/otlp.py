"""OpenTelemetry log records, whatever their encoding: what they mean here.

Attributes of the resource say who it was, those of the record become fields and extras
(https://opentelemetry.io/docs/specs/otel/logs/data-model/). A record of the collector's container
operator, a text and which output it is of, is a line of that output.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from loghaul.chunk import EVENTS, TEXT
from loghaul_ingest import levels, records
from loghaul_ingest.foreign import said
from loghaul_ingest.foreign.entry import Entry, Producer
from loghaul_ingest.foreign.line import Said, line
from loghaul_ingest.foreign.plain import ended

#: Attributes of a record by what they are here.
_FIELDS = {
    "code.file.path": "log.origin.file.name",
    "code.filepath": "log.origin.file.name",
    "code.line.number": "log.origin.file.line",
    "code.lineno": "log.origin.file.line",
    "code.function.name": "log.origin.function",
    "code.function": "log.origin.function",
    "exception.type": "error.type",
    "exception.message": "error.message",
    "exception.stacktrace": "error.stack_trace",
    "thread.name": "process.thread.name",
    "thread.id": "process.thread.id",
}
#: Attributes of a container's line that say where it was read.
_READ = frozenset({"log.iostream", "log.file.path", "log.file.name", "logtag", "time"})
_POD = ("k8s.pod.labels.", "k8s.pod.label.", "k8s.pod.annotations.", "k8s.pod.annotation.")


class Logged(NamedTuple):
    """A log record. `number`: of severity, 0 unset; ids are lower-case hex, empty when unset."""

    time_us: int | None
    number: int
    text: str
    body: Any
    attributes: Mapping[str, Any]
    trace_id: str
    span_id: str


def entry(who: Producer, scope: str, logged: Logged, arrived_us: int) -> Entry:
    """Return the entry of a log record. `who`: `producer` of its resource."""
    run = said.first_run(logged.attributes)
    if run:
        who = replace(who, run=run)
    attributes = {k: v for k, v in logged.attributes.items() if k not in said.RUN_KEYS}
    stream, body = attributes.get("log.iostream"), logged.body
    output = stream in ("stdout", "stderr") and isinstance(body, str) and not logged.number
    if output and attributes.keys() <= _READ:
        data = said.encoded(body)
        partial = attributes.get("logtag") == "P"
        return Entry(who, str(stream), TEXT, data if partial else ended(data), logged.time_us)
    found = _said(scope, logged, attributes)
    return Entry(who, "records", EVENTS, line(found, arrived_us), logged.time_us)


def _said(scope: str, logged: Logged, attributes: Mapping[str, Any]) -> Said:
    found = Said(_message(logged.body), logged.time_us, _level(logged), scope or None)
    for key, value in attributes.items():
        name = _FIELDS.get(key)
        if name is not None and isinstance(value, (str, int)) and name not in found.fields:
            found.fields[name] = value
        else:
            found.extra[key] = value
    if isinstance(logged.body, dict):
        found.extra["body"] = logged.body
    found.fields["trace.id"], found.fields["span.id"] = logged.trace_id, logged.span_id
    return found


def _level(logged: Logged) -> str | None:
    """The number decides: texts are what a language happens to call it."""
    return levels.of_otlp(logged.number) or logged.text or None


def _message(body: Any) -> str:
    if isinstance(body, dict):
        text = next((body[key] for key in ("message", "msg", "body") if key in body), None)
        if isinstance(text, str):
            return text
    return "" if body is None else records.as_text(body)


def producer(resource: Mapping[str, Any], given: Producer) -> Producer:
    """Return who a resource is."""
    pod = {
        key[len(prefix) :]: value
        for prefix in _POD
        for key, value in resource.items()
        if key.startswith(prefix)
    }
    container = said.first_text(("k8s.container.name", "container.name"), resource)
    node = said.first_text(("loghaul.node", "k8s.node.name"), resource)
    return replace(
        given,
        run=said.first_run(pod, resource) or given.run,
        experiment=said.first_text(said.EXPERIMENT_KEYS, pod, resource) or given.experiment,
        rank=said.first_rank(pod, resource),
        node=node or given.node,
        host=said.name(resource.get("host.name")) or node,
        namespace=said.first_text(("k8s.namespace.name", "service.namespace"), resource),
        pod=said.name(resource.get("k8s.pod.name")),
        container=container,
        container_id=said.name(resource.get("container.id")),
        service=_service(resource),
    )


def _service(resource: Mapping[str, Any]) -> str | None:
    service = said.name(resource.get("service.name"))
    instance = said.name(resource.get("service.instance.id"))
    return f"{service}-{instance}" if service and instance else service or instance
