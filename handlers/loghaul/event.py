"""A log record as one line of an events stream: JSON with dotted ECS names, UTF-8, one newline.

`take(record, outlet)` promises: everything of the record is in the line; nothing raises because
of what the record carries. The order of names is fixed: `@timestamp`, `log.level`, `message` first.

It is the hot path of a training script: what is the same for every record of one call site (logger,
level, source place, thread) is rendered once and kept, the date once per second, and no dictionary
is built. A record with more than a message (exception, stack, extra) takes the longer way.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import time
import traceback
from json.encoder import encode_basestring as _quote
from operator import itemgetter
from threading import get_ident
from typing import Any, Callable, Optional, Protocol

from loghaul import health
from loghaul.plain import plain, text

_SURROGATE = re.compile("[\ud800-\udfff]")

#: Call sites that are kept; a script with more starts over, which costs time and nothing else.
MAX_SITES = 4096

#: Attributes of a record that are no extras: python-json-logger's list, and what is ours.
RESERVED = frozenset({
    "args", "asctime", "created", "exc_info", "exc_text", "filename", "funcName", "levelname",
    "levelno", "lineno", "message", "module", "msecs", "msg", "name", "pathname", "process",
    "processName", "relativeCreated", "stack_info", "taskName", "thread", "threadName",
})  # fmt: skip

_SITE = (
    "lineno", "pathname", "funcName", "name", "levelno", "thread", "threadName", "process",
    "exc_info", "exc_text", "stack_info",
)  # fmt: skip
_PLAIN = len(logging.LogRecord("", 0, "", 0, "", None, None).__dict__)

_site_of = itemgetter(*_SITE, *(("taskName",) if sys.version_info >= (3, 12) else ()))
_sites: dict[Any, tuple[str, str]] = {}
#: First microsecond, first one behind, and the beginning of a line of this second.
_second: tuple[int, int, str] = (0, 0, "")
#: True while a message and its arguments are merged: what is logged by their own code sees it.
_merging = False
_formatting: set[int] = set()


class Outlet(Protocol):
    """What lines are handed to: `append(stream, line, time_us, severity)`."""

    append: Callable[[int, bytes, int, int], Any]
    stream: int


def take(record: logging.LogRecord, outlet: Outlet) -> None:
    """Hand the line of a record to an outlet. This is the boundary to the script: never raises."""
    global _merging
    values = record.__dict__
    try:
        head, tail = _sites[_site_of(values)]
        if len(values) != _PLAIN and _has_extras(values):
            return _take_long(record, outlet)
        message, args = values["msg"], values["args"]
        if args:
            if _merging:
                return _take_long(record, outlet)
            _merging = True
            try:
                message = message % args
            finally:
                _merging = False
        time_us = int(values["created"] * 1e6)
        first, behind, date = _second
        if not first <= time_us < behind:
            date = _date(time_us)
        # Sixteen digits: the last six are the microseconds. What is no text makes _quote raise.
        line = f"{date}{str(time_us)[10:]}{head}{_quote(message)}{tail}".encode()
    except Exception:  # noqa: BLE001 - whatever it is, the longer way knows how to live with it
        return _take_long(record, outlet)
    outlet.append(outlet.stream, line, time_us, values["levelno"])


def _forked() -> None:
    """In a child of a fork nobody is merging a message any more."""
    global _merging
    _merging = False
    _formatting.clear()


os.register_at_fork(after_in_child=_forked)


def _has_extras(values: dict[str, Any]) -> bool:
    """A formatter that ran before leaves `message` and `asctime` on the record."""
    return len(values) - ("message" in values) - ("asctime" in values) != _PLAIN


def _date(time_us: int) -> str:
    global _second
    second = time_us // 1_000_000
    if not 10**9 <= second < 10**10:
        raise ValueError("not ten digits")
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
    date = f'{{"@timestamp":"{stamp}.'
    _second = (second * 1_000_000, (second + 1) * 1_000_000, date)
    return date


def _take_long(record: logging.LogRecord, outlet: Outlet) -> None:
    """Take a record that has more than a message, or something odd about it."""
    try:
        severity = record.levelno if type(record.levelno) is int else 20
        outlet.append(outlet.stream, dump(fields(record)), time_of(record), severity)
    except Exception as error:  # noqa: BLE001 - a script never fails because of its logging
        health.note("record lost", error)


def time_of(record: logging.LogRecord) -> int:
    """Return a record's time in microseconds; now, where it has none that can be read."""
    try:
        return int(record.created * 1e6)
    except (AttributeError, TypeError, ValueError, OverflowError):
        return time.time_ns() // 1000


def dump(found: dict[str, Any]) -> bytes:
    """Return fields that JSON knows as a line."""
    encoded = json.dumps(found, ensure_ascii=False, separators=(",", ":"), check_circular=False)
    return f"{whole(encoded)}\n".encode()


def whole(encoded: str) -> str:
    """Return JSON with lone surrogates as visible text: many readers refuse their escapes."""
    try:
        encoded.encode()
    except UnicodeEncodeError:
        return _SURROGATE.sub(lambda match: f"\\\\u{ord(match[0]):04x}", encoded)
    return encoded


def timestamp(time_us: int) -> str:
    """Return RFC 3339 in UTC with microseconds."""
    second, micro = divmod(time_us, 1_000_000)
    try:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
    except (OverflowError, ValueError, OSError):
        return "1970-01-01T00:00:00.000000Z"
    return f"{stamp}.{micro:06d}Z"


def fields(
    record: logging.LogRecord,
    message: Optional[str] = None,
    extra: Optional[dict[str, Any]] = None,
) -> dict[str, Any]:
    """Return a record as fields in the order of a line, all of them known to JSON.

    message: of a formatter, instead of the record's own; extra: more of them, from a formatter.
    Of a record without exception and extra the parts around the message are kept for `take`.
    """
    values = record.__dict__
    thread = get_ident()
    # An argument that logs while it is made text: its own text is not asked for again.
    careful = thread in _formatting
    _formatting.add(thread)
    try:
        extras = _extras(values, careful)
        extras.update(extra or {})
        if message is None:
            message = _message(values, extras, careful)
        error = _error(values, careful)
    finally:
        if not careful:
            _formatting.discard(thread)
    if not error and not extras:
        _keep_site(values)
    found: dict[str, Any] = {"@timestamp": timestamp(time_of(record))}
    found["log.level"] = _level(values)
    found["message"] = message
    found["log.logger"] = text(values.get("name"))
    found.update(error)
    if extras:
        found["extra"] = extras
    found.update(_place(values))
    return found


def _keep_site(values: dict[str, Any]) -> None:
    try:
        site = _site_of(values)
        level = _quote(_level(values))
        logger = _quote(text(values.get("name")))
        place = json.dumps(_place(values), ensure_ascii=False, separators=(",", ":"))[1:]
        if len(_sites) >= MAX_SITES:
            _sites.clear()
        _sites[site] = (f'Z","log.level":{level},"message":', f',"log.logger":{logger},{place}\n')
    except (KeyError, TypeError):
        pass  # a record made by hand: it takes the longer way each time


def _level(values: dict[str, Any]) -> str:
    """By number: formatters that colour their output write escapes into `levelname`."""
    name = logging.getLevelName(values.get("levelno") or 0)
    known = isinstance(name, str) and not name.startswith("Level ")
    return (name if known else text(values.get("levelname"))).lower()


def _place(values: dict[str, Any]) -> dict[str, Any]:
    """Where the record came from; what the whole stream has in common is left out."""
    found: dict[str, Any] = {"event.severity": plain(values.get("levelno"))}
    found["process.thread.name"] = text(values.get("threadName"))
    if values.get("processName") not in (None, "MainProcess", process_name()):
        found["process.name"] = text(values["processName"])
    if values.get("process") not in (None, os.getpid()):
        found["process.pid"] = plain(values["process"])
    if values.get("threadName") != "MainThread" and values.get("thread") is not None:
        found["process.thread.id"] = plain(values["thread"])
    if values.get("taskName") is not None:
        found["process.task.name"] = text(values["taskName"])
    found["log.origin.file.name"] = text(values.get("pathname"))
    found["log.origin.file.line"] = plain(values.get("lineno"))
    if values.get("funcName") is not None:
        found["log.origin.function"] = text(values["funcName"])
    return found


def process_name() -> str:
    """Return the name that multiprocessing gives this process."""
    module = sys.modules.get("multiprocessing.process")
    return text(module.current_process().name) if module is not None else "MainProcess"


def _extras(values: dict[str, Any], careful: bool) -> dict[str, Any]:
    found = {
        key: plain(value, careful)
        for key, value in list(values.items())
        if key not in RESERVED and not (type(key) is str and key.startswith("_"))
    }
    if isinstance(values.get("msg"), dict):
        found.update(plain(dict(values["msg"]), careful))
    return {text(key): value for key, value in found.items()}


def _message(values: dict[str, Any], extras: dict[str, Any], careful: bool) -> str:
    """Return the message with its arguments; where they do not fit it both are kept apart."""
    message, args = values.get("msg"), values.get("args")
    if not args:
        return text(message, careful)
    try:
        if careful:
            raise ValueError("logged while an argument was made text")
        return str.__str__(str(message) % args)
    except Exception as error:  # noqa: BLE001 - arguments may raise anything
        health.note("arguments of a record do not fit its message", error)
        extras["args"] = plain(args, careful=True)
        return text(message, careful)


def _error(values: dict[str, Any], careful: bool) -> dict[str, Any]:
    """Return error.* of exc_info or of a text that was kept of one, stack_info behind it."""
    found: dict[str, Any] = {}
    info = values.get("exc_info")
    if isinstance(info, tuple) and len(info) == 3 and info[1] is not None:
        found = error_fields(info[1], info[2])
    elif values.get("exc_text"):
        found = text_error(text(values["exc_text"]))
    if values.get("stack_info"):
        stack = text(values["stack_info"], careful)
        before = found.get("error.stack_trace")
        found["error.stack_trace"] = f"{before}\n{stack}" if before else stack
    return found


def error_fields(error: BaseException, trace: Any = None) -> dict[str, Any]:
    """Return error.type, error.message and error.stack_trace (the whole chain) of an exception."""
    try:
        trace = error.__traceback__ if trace is None else trace
        stack = "".join(traceback.format_exception(type(error), error, trace)).rstrip("\n")
    except Exception as failure:  # noqa: BLE001 - formatting calls the exception's own code
        stack = f"<no stack: {type(failure).__name__}>"
    kind = type(error)
    name = kind.__qualname__
    if kind.__module__ not in ("builtins", "__main__"):
        name = f"{kind.__module__}.{name}"
    return {"error.type": name, "error.message": text(error), "error.stack_trace": stack}


def text_error(stack: str) -> dict[str, Any]:
    """Return error.* of a formatted traceback: a queue carries exceptions as text only."""
    last = stack.rstrip("\n").rpartition("\n")[2]
    kind, colon, message = last.partition(": ")
    if not kind.replace(".", "").replace("_", "").isalnum():
        return {"error.stack_trace": stack}
    return {
        "error.type": kind,
        "error.message": message if colon else "",
        "error.stack_trace": stack,
    }
