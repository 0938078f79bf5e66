"""An event as a reader gets it: flat, dotted ECS names (DESIGN.md 3.1), ready for JSON.

Facts of the stream stand once per stream and are joined here. A line cannot speak for its stream:
`run.*`, `host.*`, `log.file.path`, `log.offset` and the like are always the stream's. Bytes that
are no UTF-8 become `\\xff`, so that JSON never fails; the exact bytes are in the file. `message`
has no ANSI sequences and no terminator; of a line that is a JSON object it is the object's own
message, and `event.original` is the line.
"""

from __future__ import annotations

from typing import Any

from loghaul.chunk import EVENTS
from loghaul_ingest import levels
from loghaul_ingest.lines import Span
from loghaul_ingest.times import micros, rfc3339
from loghaul_ingest.view import View
from loghaul_ingest.words import plain

_FACTS = (
    "run.id",
    "run.name",
    "run.attempt",
    "run.node",
    "run.rank",
    "run.local_rank",
    "experiment.name",
    "host.name",
    "process.pid",
    "process.name",
    "log.file.path",
    "log.iostream",
)


def event(view: View, span: Span, attempt: int | None = None) -> dict[str, Any]:
    """Return an event of a view.

    attempt   of the writer, where it was computed from the run's writers; else the given one
    """
    facts, raw = view.facts, view.text(span)
    said = view.fields(span)
    offset = view.offset_of(span)
    found: dict[str, Any] = {"@timestamp": rfc3339(view.time_of(span))}
    if "log.level" in said:
        found["log.level"] = said["log.level"]
    line = raw.decode("utf-8", "backslashreplace")
    found["message"] = plain(said.get("message", line))
    said.pop("@timestamp", None)
    found.update((key, value) for key, value in said.items() if key != "message")
    if "log.level" in said:
        found.setdefault("event.severity", levels.severity(said["log.level"]) or None)
        if found["event.severity"] is None:
            del found["event.severity"]
    for key in _FACTS:
        if (value := facts.common.get(key)) is not None:
            found.setdefault(key, value) if key == "process.name" else found.update({key: value})
    found["run.id"] = facts.stream.run
    if attempt is not None:
        found["run.attempt"] = attempt
    labels = facts.common.get("labels")
    if isinstance(labels, dict):
        found.update((f"labels.{key}", value) for key, value in labels.items())
    found["log.offset"] = offset
    if view.progress(span):
        found["log.progress"] = True
    found["event.id"] = f"{facts.stream}@{offset}"
    found["event.kind"] = view.kind
    if "message" in said and view.kind != EVENTS:
        found["event.original"] = line
    return found


def render(event: dict[str, Any]) -> str:
    """Return what people see of an event, without a newline at the end.

    Records: `2026-11-23 22:26:47,123|azure.core|DEBUG|message`, the stack trace on lines of its
    own behind it. A record that has neither logger nor level, such as a line of
    process_status.json, is shown as it is. Text: the line.
    """
    if event.get("event.kind") != EVENTS or not ("log.logger" in event or "log.level" in event):
        return str(event.get("event.original", event["message"]))
    time_us = micros(event["@timestamp"]) or 0
    stamp = rfc3339(time_us)
    logger = event.get("log.logger", "")
    level = str(event.get("log.level", "")).upper()
    line = f"{stamp[:10]} {stamp[11:19]},{stamp[20:23]}|{logger}|{level}|{event['message']}"
    if trace := event.get("error.stack_trace"):
        line += "\n" + str(trace).rstrip("\n")
    return line
