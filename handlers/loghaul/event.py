"""A log record as one line of an events stream: JSON with dotted ECS names, UTF-8, one newline.

The order of names is fixed: `@timestamp`, `log.level`, `message` first. Nothing raises because of
what a record carries. Most records do not come here: `loghaul.hot` keeps them in parts, which
are put together again as the same line.
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
from threading import get_ident
from typing import Any, Callable, Optional, Protocol

from loghaul import health
from loghaul.moment import stamp
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

#: What tells call sites apart.
SITE = (
    "lineno", "pathname", "funcName", "name", "levelno", "thread", "threadName", "process",
    *(("taskName",) if sys.version_info >= (3, 12) else ()),
)  # fmt: skip
#: Of these no text is made by code of a script.
_PLAIN = (str, int, float, bool, type(None))
#: Call site -> what its lines have in common, a `Site` of the spool; for `loghaul.hot`.
sites: dict[Any, Any] = {}
_formatting: set[int] = set()


class Outlet(Protocol):
    """What whole lines are handed to: `append(stream, line, time_us, severity)`."""

    append: Callable[[int, bytes, int, int], Any]
    stream: int


def _forked() -> None:
    """In a child of a fork nobody is making text of arguments any more."""
    _formatting.clear()


os.register_at_fork(after_in_child=_forked)


def take_long(record: logging.LogRecord, outlet: Outlet) -> None:
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
    return f"{stamp(time_us)}Z"


def fields(
    record: logging.LogRecord,
    message: Optional[str] = None,
    extra: Optional[dict[str, Any]] = None,
) -> dict[str, Any]:
    """Return a record as fields in the order of a line, all of them known to JSON.

    message: of a formatter, instead of the record's own; extra: more of them, from a formatter.
    Of a record without exception and extra the parts around the message are kept for the next one.
    """
    values = record.__dict__
    thread = get_ident()
    # An argument that logs while it is made text: its own text is not asked for again.
    careful = thread in _formatting
    try:
        # Inside: an interrupt that comes with this call must not leave the thread marked for ever.
        _formatting.add(thread)
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
    """Keep what the lines of a call site have in common, for the next record of it."""
    try:
        from loghaul.spool.site import Site

        key = tuple(values[name] for name in SITE)
        level = whole(_quote(_level(values)))
        logger = whole(_quote(text(values["name"])))
        place = whole(json.dumps(_place(values), ensure_ascii=False, separators=(",", ":")))
        site = Site(
            b'{"@timestamp":"',
            f'Z","log.level":{level},"message":"'.encode(),
            f'","log.logger":{logger},{place[1:]}\n'.encode(),
        )
        if len(sites) >= MAX_SITES:
            sites.clear()
        sites[key] = site
    except (KeyError, TypeError):
        pass  # a record made by hand: it takes the longer way each time
    except ImportError:
        pass  # of a signal handler amid this very import, or the interpreter ends: this one only


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
        if careful and not _is_plain(message, args):
            raise ValueError("logged while an argument was made text")
        return str.__str__(str(message) % args)
    except Exception as error:  # noqa: BLE001 - arguments may raise anything
        health.note("arguments of a record do not fit its message", error)
        extras["args"] = plain(args, careful=True)
        return text(message, careful)


def _is_plain(message: Any, args: Any) -> bool:
    """Whether merging them runs no code but Python's own, which logs nothing."""
    parts = args.values() if type(args) is dict else args if type(args) is tuple else (args,)
    return type(message) is str and all(type(part) in _PLAIN for part in parts)


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
