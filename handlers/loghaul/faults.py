"""Uncaught exceptions as records: of the main thread, of other threads, and ignored ones.

What is printed, and by whom, stays as it was: the hook that was there is called as before. Code
that asks whether the standard hook is in place (`sys.excepthook is sys.__excepthook__`) is told
yes. What a replaced hook swallows is found at the end in `sys.last_value`.
"""

from __future__ import annotations

import sys
import time

TYPE_CHECKING = False  # typing is slow to load, and every Python process loads this
if TYPE_CHECKING:
    from typing import Any, Optional

_seen: dict[str, Any] = {"error": None, "interrupted": False}


def install() -> None:
    """Watch `sys.excepthook` and `sys.unraisablehook`; threads are watched by `install_threads`."""
    previous = sys.excepthook
    if getattr(previous, "is_loghaul_hook", False):
        return

    def excepthook(kind: Any, error: Any, trace: Any) -> None:
        _record_fatal(error, trace)
        # Called by the interpreter itself there is no caller, and by scripts that go on there is.
        if kind is KeyboardInterrupt and sys._getframe().f_back is None:
            _seen["interrupted"] = True
        previous(kind, error, trace)
        stay_interrupted()

    excepthook.is_loghaul_hook = True  # type: ignore[attr-defined]
    if previous is sys.__excepthook__:
        sys.__excepthook__ = excepthook
    sys.excepthook = excepthook
    _install_unraisable()


def _install_unraisable() -> None:
    previous = sys.unraisablehook

    def unraisablehook(unraisable: Any) -> None:
        if unraisable.exc_value is not None and not sys.is_finalizing():
            place = getattr(unraisable.object, "__qualname__", type(unraisable.object).__name__)
            message = f"{unraisable.err_msg or 'Exception ignored in'}: {place}"
            record(unraisable.exc_value, unraisable.exc_traceback, message)
        previous(unraisable)

    if previous is sys.__unraisablehook__:
        sys.__unraisablehook__ = unraisablehook
    sys.unraisablehook = unraisablehook


def install_threads(threading: Any) -> None:
    """Watch `threading.excepthook` of the module given."""
    previous = threading.excepthook
    if getattr(previous, "is_loghaul_hook", False):
        return

    def excepthook(args: Any) -> None:
        # SystemExit ends a thread silently, as it is meant to.
        if args.exc_value is not None and args.exc_type is not SystemExit:
            name = args.thread.name if args.thread is not None else "?"
            record(args.exc_value, args.exc_traceback, f"Exception in thread {name}", name)
        previous(args)

    excepthook.is_loghaul_hook = True  # type: ignore[attr-defined]
    if previous is getattr(threading, "__excepthook__", None):
        threading.__excepthook__ = excepthook
    threading.excepthook = excepthook


def stay_interrupted() -> None:
    """Let Python end by SIGINT where a KeyboardInterrupt ends it, as without us: code 130.

    It remembers that in a flag, which any `exec` of text clears, as in the modules that recording
    loads; such an interrupt in an `exec` sets it again.
    """
    if _seen["interrupted"]:
        try:
            exec("raise KeyboardInterrupt")
        except KeyboardInterrupt:
            pass


def _record_fatal(error: Any, trace: Any) -> None:
    if isinstance(error, BaseException):
        _seen["error"] = error
        record(error, trace, "Uncaught exception", level="critical", severity=50)


def fatal() -> dict[str, Any]:
    """Return status, error.type and error.message of what ends the interpreter, or {}.

    Recorded now, if the user's own excepthook kept it from us.
    """
    last: Optional[BaseException] = getattr(sys, "last_value", None)
    trace = getattr(sys, "last_traceback", None)
    interactive = hasattr(sys, "ps1") or sys.flags.interactive
    if last is not None and last is not _seen["error"] and not (interactive or _caught(trace)):
        _seen["interrupted"] = type(last) is KeyboardInterrupt
        _record_fatal(last, trace)
    if _seen["error"] is None:
        return {}
    from loghaul import event

    found = event.error_fields(_seen["error"])
    canceled = isinstance(_seen["error"], KeyboardInterrupt)
    return {
        "status": "canceled" if canceled else "failed",
        "error.type": found["error.type"],
        "error.message": found["error.message"][:4096],
    }


def _caught(trace: Any) -> bool:
    """Return whether somebody caught it: consoles and test runners leave it for a debugger too."""
    return trace is not None and trace.tb_frame.f_back is not None


def record(
    error: BaseException,
    trace: Any,
    message: str,
    thread: str = "",
    level: str = "error",
    severity: int = 40,
) -> None:
    """Keep an exception as a record of the logger `python.exception`. Never raises."""
    try:
        import threading

        from loghaul import event, outlet

        time_us = time.time_ns() // 1000
        found = event.error_fields(error, trace)
        summary = f"{message}: {found['error.type']}: {found['error.message']}"
        line = {
            "@timestamp": event.timestamp(time_us),
            "log.level": level,
            "message": summary,
            "log.logger": "python.exception",
            **found,
            "event.severity": severity,
            "process.thread.name": thread or threading.current_thread().name,
            **_origin(trace),
        }
        outlet.DEFAULT.put(event.dump(line), time_us, severity)
    except BaseException as failure:  # noqa: BLE001 - the user's traceback must still be printed
        from loghaul import health

        health.note("uncaught exception not recorded", failure)


def _origin(trace: Any) -> dict[str, Any]:
    """Return the place that raised: the last frame of the traceback."""
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return {}
    code = trace.tb_frame.f_code
    return {
        "log.origin.file.name": code.co_filename,
        "log.origin.file.line": trace.tb_lineno,
        "log.origin.function": code.co_name,
    }
