"""JSON records taken apart into ECS fields: our own, and those that other loggers print.

`fields(line)` never fails: what is no JSON object gives None. Numbers that neither a double nor 64
bits can hold stay the text that was written, so that nothing is rounded or turned into infinity;
bytes and characters that are no UTF-8 become `\\xff`, `\\udXXX`.

Keys that python-json-logger, structlog, ECS, bunyan, pino and zap use become the ECS fields they
mean, in an object that has a message or a level; everything else stands under `extra.`, nested
objects with dots. The time that a foreign line says is left alone: it is `event.created`, as it
stood, and the event's time stays the one of its arrival.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from loghaul_ingest import levels

#: Fields that a record may carry under their own name; no record can speak for its stream.
_KNOWN = frozenset(
    {
        "message",
        "log.level",
        "log.logger",
        "log.origin.file.name",
        "log.origin.file.line",
        "log.origin.function",
        "event.severity",
        "event.created",
        "error.type",
        "error.message",
        "error.stack_trace",
        "process.name",
        "process.thread.id",
        "process.thread.name",
        "process.task.name",
        "trace.id",
        "span.id",
    }
)
_LEVELS = (
    *("log.level", "levelname", "level", "severity", "lvl", "loglevel", "log_level"),
    *("level_name", "severity_text", "severityText", "severityNumber", "levelno"),
)
_ANY_NAME = frozenset({"log.level", "levelname"})
_MESSAGES = ("message", "msg", "event", "body")
_ALIASES = {
    "logger": "log.logger",
    "name": "log.logger",
    "logger_name": "log.logger",
    "loggerName": "log.logger",
    "@timestamp": "event.created",
    "timestamp": "event.created",
    "time": "event.created",
    "asctime": "event.created",
    "ts": "event.created",
    "datetime": "event.created",
    "exc_info": "error.stack_trace",
    "exception": "error.stack_trace",
    "stack_trace": "error.stack_trace",
    "stacktrace": "error.stack_trace",
    "traceback": "error.stack_trace",
    "pathname": "log.origin.file.name",
    "filename": "log.origin.file.name",
    "lineno": "log.origin.file.line",
    "funcName": "log.origin.function",
    "func_name": "log.origin.function",
    "threadName": "process.thread.name",
    "thread_name": "process.thread.name",
    "processName": "process.name",
    "process_name": "process.name",
    "taskName": "process.task.name",
    "trace_id": "trace.id",
    "traceId": "trace.id",
    "span_id": "span.id",
    "spanId": "span.id",
}
_LAST_LINE = re.compile(r"(?:[A-Za-z_]\w*\.)*[A-Za-z_]\w*(?=: |:?$)", re.ASCII)
_ESCAPED_BYTE = re.compile("[\udc80-\udcff]")


def parse(line: bytes) -> dict[str, Any] | None:
    """Return the JSON object that a line is, None if it is none."""
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError:
        found = _parse_exactly(line)
    return found if isinstance(found, dict) else None


def fields(line: bytes, own: bool) -> dict[str, Any] | None:
    """Return the ECS fields of a line that is a JSON object, None if it is none.

    own   it is a record of an events stream: its keys are ours, flat, and `@timestamp` is its time
    """
    found = parse(line)
    if found is None:
        return None
    flat = dict(flatten(found))
    if any(type(value) is float and abs(value) >= 2.0**63 for value in flat.values()):
        flat = dict(flatten(_parse_exactly(line) or found))
    flat = {_clean(key): _clean_value(value) for key, value in flat.items()}
    return _own(flat) if own else foreign_fields(flat)


def flatten(found: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, value) of an object in order; lists and empty objects are values."""
    waiting: list[tuple[str, Iterator[tuple[str, Any]]]] = [("", iter(found.items()))]
    while waiting:
        prefix, items = waiting[-1]
        for key, value in items:
            if isinstance(value, dict) and value:
                waiting.append((f"{prefix}{key}.", iter(value.items())))
                break
            yield prefix + key, value
        else:
            waiting.pop()


def _own(flat: dict[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for key, value in flat.items():
        if key in _KNOWN or key == "@timestamp" or key.startswith("extra."):
            fields[key] = value
        else:
            fields[f"extra.{key}"] = value
    if not isinstance(fields.get("message", ""), str):
        fields["message"] = as_text(fields["message"])
    return _leveled(fields, fields.pop("log.level", None))


def foreign_fields(flat: dict[str, Any]) -> dict[str, Any]:
    """Return the ECS fields of a flat JSON object that another logger wrote; takes it apart."""
    message = next((key for key in _MESSAGES if isinstance(flat.get(key), str)), None)
    level_key, level = _level_of(flat)
    fields: dict[str, Any] = {}
    if message is None and level_key is None:
        _extend(fields, flat.items(), {})
        return fields
    if message is not None:
        fields["message"] = flat.pop(message)
    if level_key is not None:
        flat.pop(level_key)
    _extend(fields, flat.items(), _ALIASES)
    _explain(fields)
    return _leveled(fields, level)


def _extend(
    fields: dict[str, Any], items: Iterable[tuple[str, Any]], aliases: dict[str, str]
) -> None:
    for key, value in items:
        name = aliases.get(key, key)
        scalar = isinstance(value, (str, int, float)) and value != ""
        if name not in _KNOWN or not scalar or name in fields or name == "message":
            name = key if key.startswith("extra.") else f"extra.{key}"
        fields[name] = value


def _leveled(fields: dict[str, Any], level: Any) -> dict[str, Any]:
    if isinstance(level, str) and level:
        fields["log.level"] = levels.canonical(level)
    severity = fields.get("event.severity")
    if type(severity) is not int:
        fields.pop("event.severity", None)
    return fields


def _level_of(flat: dict[str, Any]) -> tuple[str | None, str | None]:
    """Return the key that says the level, and the level."""
    for key in _LEVELS:
        if (level := _level_in(key, flat.get(key))) is not None:
            return key, level
    return None, None


def _level_in(key: str, value: Any) -> str | None:
    if isinstance(value, str):
        name = levels.canonical(value)
        known = name in levels.SEVERITY or (key in _ANY_NAME and 0 < len(name) <= 64)
        return name if known else None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return _NUMBERS.get(key, levels.of_number)(value)


_NUMBERS = {"levelno": levels.of_levelno, "severityNumber": levels.of_otlp}


def _explain(fields: dict[str, Any]) -> None:
    """A stack trace says the type and the message of its error in its last line."""
    trace = fields.get("error.stack_trace")
    if not isinstance(trace, str) or "error.type" in fields:
        return
    last = trace.rstrip().rpartition("\n")[2]
    if match := _LAST_LINE.match(last):
        fields["error.type"] = match[0]
        fields.setdefault("error.message", last[match.end() + 2 :])


def as_text(value: Any) -> str:
    """Return a JSON value as text: a text as it is, everything else as JSON writes it."""
    if isinstance(value, str):
        return value
    try:
        return orjson.dumps(value).decode()
    except (TypeError, ValueError, RecursionError):
        return str(value)


def _parse_exactly(line: bytes) -> Any:
    """Parse what orjson refuses or would round: NaN, 1e999, large integers, lone surrogates."""
    try:
        return json.loads(
            line.decode("utf-8", "surrogateescape"),
            parse_float=_float,
            parse_int=_integer,
            parse_constant=str,
        )
    except (ValueError, RecursionError):
        return None


def _float(text: str) -> float | str:
    value = float(text)
    return value if math.isfinite(value) else text


def _integer(text: str) -> int | str:
    return int(text) if len(text) < 19 else text


def _clean(text: str) -> str:
    """Return text that UTF-8 can write."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        text = _ESCAPED_BYTE.sub(lambda match: f"\\x{ord(match[0]) - 0xDC00:02x}", text)
        return text.encode("utf-8", "backslashreplace").decode()
    return text


def _clean_value(value: Any) -> Any:
    if isinstance(value, str):
        return _clean(value)
    if isinstance(value, list):
        try:
            orjson.dumps(value)
        except (TypeError, ValueError):
            return _clean(json.dumps(value, ensure_ascii=True))
    return value
