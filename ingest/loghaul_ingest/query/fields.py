"""Which names may open `name:` in a query, and which ECS field each of them means.

Only these, `extra.*`, `labels.*` and `tag.*` are fields: anything else before a colon is text, so
that a pasted line (`Epoch: 3`, `https://host`, `10:22:33`) never becomes a field by accident.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Fields that are the same for a whole stream: decided once per stream, not per line.
STREAM_FIELDS = frozenset(
    {
        "run.id",
        "run.name",
        "run.attempt",
        "run.node",
        "run.rank",
        "run.local_rank",
        "experiment.name",
        "host.name",
        "process.pid",
        "log.file.path",
        "log.iostream",
        "event.kind",
        "writer",
    }
)

#: Fields that a line itself carries (`recognise.fields_of`).
LINE_FIELDS = frozenset(
    {
        "message",
        "log.logger",
        "error.type",
        "error.message",
        "error.stack_trace",
        "process.name",
        "process.thread.name",
        "process.task.name",
        "log.origin.file.name",
        "log.origin.file.line",
        "log.origin.function",
    }
)

LEVEL, TIME = "log.level", "@timestamp"

_SHORT = {
    "run": "run.id",
    "name": "run.name",
    "attempt": "run.attempt",
    "node": "run.node",
    "rank": "run.rank",
    "local_rank": "run.local_rank",
    "exp": "experiment.name",
    "experiment": "experiment.name",
    "host": "host.name",
    "pid": "process.pid",
    "file": "log.file.path",
    "path": "log.file.path",
    "stream": "log.iostream",
    "iostream": "log.iostream",
    "kind": "event.kind",
    "level": LEVEL,
    "logger": "log.logger",
    "thread": "process.thread.name",
    "function": "log.origin.function",
    "src": "log.origin.file.name",
    "time": TIME,
    "ts": TIME,
    "timestamp": TIME,
    "since": "since",
    "until": "until",
}
#: Every name without a free part, for hints.
NAMES = (*_SHORT, *sorted(STREAM_FIELDS | LINE_FIELDS))
_PREFIXES = {"extra.": "extra.", "labels.": "labels.", "tag.": "labels."}


def resolve(name: str) -> str | None:
    """Return the ECS field that a name in a query means, None if it opens no field."""
    if name in STREAM_FIELDS or name in LINE_FIELDS or name in (LEVEL, TIME):
        return name
    if name in _SHORT:
        return _SHORT[name]
    for prefix, full in _PREFIXES.items():
        if name.startswith(prefix) and len(name) > len(prefix):
            return full + name[len(prefix) :]
    return None


def of_stream(field: str) -> bool:
    """Return whether a field is the same for a whole stream."""
    return field in STREAM_FIELDS or field.startswith("labels.")


def stream_value(field: str, common: Mapping[str, Any]) -> Any:
    """Return the value of a stream's field, None where it has none."""
    if field.startswith("labels."):
        labels = common.get("labels") or {}
        return labels.get(field[len("labels.") :]) if isinstance(labels, Mapping) else None
    return common.get(field)


def line_value(field: str, values: Mapping[str, Any]) -> Any:
    """Return the value of a line's field out of `recognise.fields_of`, None where it has none.

    `extra.a.b` is the key "a.b" of the extra, or the key "b" of the object "a" in it.
    """
    if not field.startswith("extra."):
        return values.get(field)
    if field in values:
        return values[field]
    found: Any = values.get("extra")
    rest = field[len("extra.") :]
    while isinstance(found, Mapping):
        if rest in found:
            return found[rest]
        head, _, rest = rest.partition(".")
        if not rest:
            return None
        found = found.get(head)
    return None
