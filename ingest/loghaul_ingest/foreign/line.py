"""A record of an events stream, made of a foreign record: the keys and order of our own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from loghaul_ingest import levels
from loghaul_ingest.times import rfc3339

#: Fields of a line behind `extra`, in their order, where they are known.
_BEHIND = (
    "process.thread.name",
    "process.name",
    "process.thread.id",
    "process.task.name",
    "log.origin.file.name",
    "log.origin.file.line",
    "log.origin.function",
    "trace.id",
    "span.id",
)
_ERROR = ("error.type", "error.message", "error.stack_trace")


@dataclass
class Said:
    """What one foreign record says. `fields` are ECS names, `extra` everything else."""

    message: str
    time_us: int | None = None
    level: str | None = None
    logger: str | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)


def line(said: Said, time_us: int) -> bytes:
    """Return the JSON line of a record. `time_us` counts where it says no time itself."""
    found: dict[str, Any] = {"@timestamp": rfc3339(said.time_us or time_us)}
    level = levels.canonical(said.level) if said.level else None
    if level:
        found["log.level"] = level
    found["message"] = said.message
    if said.logger:
        found["log.logger"] = said.logger
    found.update(_known(said.fields, _ERROR))
    if said.extra:
        found["extra"] = said.extra
    if severity := levels.severity(level):
        found["event.severity"] = severity
    found.update(_known(said.fields, _BEHIND))
    return dump(found) + b"\n"


def _known(fields: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: fields[name] for name in names if fields.get(name) not in (None, "")}


def dump(value: Any) -> bytes:
    """Return JSON; what UTF-8 cannot write is escaped, numbers of any size stay what they are."""
    try:
        return orjson.dumps(value)
    except (TypeError, ValueError):
        text = json.dumps(value, separators=(",", ":"), ensure_ascii=True, default=str)
        return text.encode()
