"""`loghaul.structlog_processor()`: keeps each structlog event that passes it, at any place of a
chain, and hands the event dict on as it is: the same object, unchanged.

Context variables are merged into what is kept, positional arguments into its message; exceptions
are kept with their chain. Where the chain ends in standard logging, the record that comes of the
event is not kept a second time.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import Any, Callable

from loghaul import claims, event, handler, health, outlet
from loghaul.plain import plain, text

_SEVERITIES = {
    "trace": 5, "debug": 10, "info": 20, "msg": 20, "warn": 30, "warning": 30, "error": 40,
    "err": 40, "exception": 40, "critical": 50, "fatal": 50, "failure": 40,
}  # fmt: skip
_NAMES = {"warn": "warning", "exception": "error", "err": "error", "failure": "error"}
_NAMES.update({"fatal": "critical", "msg": "info"})
_NO_EXTRAS = frozenset({
    "event", "exc_info", "exception", "level", "logger", "positional_args", "stack",
    "stack_info", "stack_trace", "_record", "_from_structlog", "_logger", "_name",
})  # fmt: skip
_INNER = ("structlog", "loghaul", "logging")


def structlog_processor(**settings: Any) -> Callable[[Any, str, Any], Any]:
    """Return a processor. `settings` as for `loghaul.Handler`; default: this process's run."""
    handler.share()
    run = settings.pop("run", None)
    if run is not None:
        settings["run_id"] = run
    destination = outlet.Outlet(**settings) if settings else outlet.DEFAULT

    def process(logger: Any, method_name: str, event_dict: Any) -> Any:
        try:
            _keep(destination, logger, method_name, event_dict)
        except Exception as error:  # noqa: BLE001 - a script never fails because of its logging
            health.note("structlog event lost", error)
        return event_dict

    return process


def _keep(destination: Any, logger: Any, method_name: str, event_dict: Any) -> None:
    values = event_dict if isinstance(event_dict, dict) else {"event": event_dict}
    record = values.get("_record")
    if record is not None and not claims.claim(record):
        return
    name = _logger_name(logger, values)
    time_us = time.time_ns() // 1000
    level, severity = _level(method_name, values)
    found = {
        "@timestamp": event.timestamp(time_us),
        "log.level": level,
        "message": _message(values),
        **({"log.logger": name} if name else {}),
        **_error(values),
        **_extra(values),
        "event.severity": severity,
        **_place(),
    }
    if record is None:
        # It may come again, as a record of the standard logger that the chain ends in.
        claims.announce(name, values.get("event"))
    destination.put(event.dump(found), time_us, severity)


def _level(method_name: str, values: dict[str, Any]) -> tuple[str, int]:
    word = method_name if method_name in _SEVERITIES else text(values.get("level", method_name))
    word = word.lower()
    if method_name == "msg" and values.get("level"):
        word = text(values["level"]).lower()
    return _NAMES.get(word, word), _SEVERITIES.get(word, 20)


def _logger_name(logger: Any, values: dict[str, Any]) -> str:
    record = values.get("_record")
    name = values.get("logger") or getattr(record, "name", None) or getattr(logger, "name", None)
    return text(name) if name else ""


def _message(values: dict[str, Any]) -> str:
    message, args = text(values.get("event", "")), values.get("positional_args")
    if not args:
        return message
    try:
        return str.__str__(message % args)
    except Exception:  # noqa: BLE001 - arguments may raise anything
        return message


def _extra(values: dict[str, Any]) -> dict[str, Any]:
    context = sys.modules.get("structlog.contextvars")
    merged = dict(context.get_contextvars()) if context is not None else {}
    merged.update({key: value for key, value in values.items() if key not in _NO_EXTRAS})
    if "stack" in values:
        merged["stack"] = values["stack"]
    if isinstance(values.get("exception"), list):
        merged["exception"] = values["exception"]
    args = values.get("positional_args")
    if args:
        merged["positional_args"] = args
    return {"extra": plain(merged)} if merged else {}


def _error(values: dict[str, Any]) -> dict[str, Any]:
    """Return error.*, whether the exception is still one or was formatted earlier in the chain."""
    info = values.get("exc_info")
    if isinstance(info, BaseException):
        return event.error_fields(info)
    if isinstance(info, tuple) and len(info) == 3 and isinstance(info[1], BaseException):
        return event.error_fields(info[1], info[2])
    current = sys.exc_info()[1]
    if info and current is not None:
        return event.error_fields(current)
    if isinstance(values.get("exception"), str):
        return event.text_error(values["exception"])
    return {}


def _task() -> str:
    """Return the name of the asyncio task that logs, "" outside of one."""
    asyncio = sys.modules.get("asyncio")
    try:
        task = asyncio.current_task() if asyncio is not None else None
        return text(task.get_name()) if task is not None else ""
    except (RuntimeError, AttributeError):
        return ""  # no loop runs in this thread, or tasks of somebody else's making


def _place() -> dict[str, Any]:
    """Return thread, task and the first frame outside of the logging libraries."""
    thread = threading.current_thread()
    found: dict[str, Any] = {"process.thread.name": thread.name}
    if thread is not threading.main_thread():
        found["process.thread.id"] = thread.ident
    task = _task()
    if task:
        found["process.task.name"] = task
    frame: Any = sys._getframe(1)
    while frame is not None:
        module = frame.f_globals.get("__name__") or ""
        if module.partition(".")[0] not in _INNER:
            break
        frame = frame.f_back
    if frame is not None:
        found["log.origin.file.name"] = os.fspath(frame.f_code.co_filename)
        found["log.origin.file.line"] = frame.f_lineno
        found["log.origin.function"] = frame.f_code.co_name
    return found
