"""Warnings that are shown become records of the logger `py.warnings`, and are shown as before.

`warnings._showwarnmsg` is where a warning arrives that passed the filters, whether or not somebody
replaced `warnings.showwarning`. What `catch_warnings(record=True)` collects was not shown. What
the user's own `showwarning` (or `logging.captureWarnings`) logs is a record already.
"""

from __future__ import annotations

import sys
import time

TYPE_CHECKING = False  # typing is slow to load, and every Python process loads this
if TYPE_CHECKING:
    from typing import Any


def install(warnings: Any) -> None:
    """Watch the module given; a Python without the function it needs is left alone."""
    original = getattr(warnings, "_showwarnmsg", None)
    show = getattr(warnings, "_showwarnmsg_impl", None)
    if original is None or show is None or getattr(original, "is_loghaul_hook", False):
        return

    def _showwarnmsg(message: Any) -> None:
        if warnings._showwarnmsg_impl is not show:
            original(message)
        elif _watched(original, message):
            record(message)

    _showwarnmsg.is_loghaul_hook = True  # type: ignore[attr-defined]
    warnings._showwarnmsg = _showwarnmsg


def _watched(original: Any, message: Any) -> bool:
    """Show a warning; return False when showing it made a record in this thread."""
    tap = sys.modules.get("loghaul.tap")
    if tap is None:
        original(message)
        return True
    seen: list[Any] = []
    tap.watchers.append(seen)
    try:
        original(message)
    finally:
        # By identity: two empty lists are equal.
        tap.watchers[:] = [watcher for watcher in tap.watchers if watcher is not seen]
    from threading import get_ident

    return get_ident() not in seen


def record(message: Any) -> None:
    """Keep a warning (a `warnings.WarningMessage`). Never raises."""
    try:
        import threading

        from loghaul import event, outlet
        from loghaul.plain import text

        time_us = time.time_ns() // 1000
        line = {
            "@timestamp": event.timestamp(time_us),
            "log.level": "warning",
            "message": f"{message.category.__name__}: {text(message.message)}",
            "log.logger": "py.warnings",
            "extra": {"category": message.category.__name__},
            "event.severity": 30,
            "process.thread.name": threading.current_thread().name,
            "log.origin.file.name": text(message.filename),
            "log.origin.file.line": message.lineno,
        }
        outlet.DEFAULT.put(event.dump(line), time_us, 30)
    except Exception as error:  # noqa: BLE001 - a warning never becomes an error because of us
        from loghaul import health

        health.note("warning not recorded", error)
