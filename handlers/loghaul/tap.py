"""The tap: every enabled record of every logger, without adding a handler to any of them.

`logging.Logger.callHandlers` is where a record has passed its logger's level and filters and
where `propagate` does not matter yet. The tap calls the original first, so that handlers,
`lastResort`, `raiseExceptions` and caplog do what they always do, and takes afterwards what no
handler of ours took. A logger class that overrides `callHandlers` on its own is left alone.
"""

from __future__ import annotations

import logging
import types
from pathlib import Path
from typing import Any, Callable

from loghaul import claims, event, handler, outlet

#: Appended to by `take` while somebody (see `warned`) wants to know whether records come.
watchers: list[list[Any]] = []


def hook_folder() -> Path:
    """Return the folder that goes first on PYTHONPATH, with nothing but sitecustomize.py in it."""
    return Path(__file__).resolve().parent / "_hook"


def take(record: logging.LogRecord) -> None:
    """Keep a record that nobody took."""
    for watcher in watchers:
        watcher.append(record.thread)
    if claims.claim(record):
        event.take(record, outlet.DEFAULT)


def install() -> None:
    """Tap all loggers; a second time, or beside another copy of loghaul, does nothing."""
    original = logging.Logger.callHandlers
    if getattr(original, "is_loghaul_tap", False):
        return
    handler.share(tapped=True)
    tapped = _inside_logging(_wrap(original))
    tapped.is_loghaul_tap = True  # type: ignore[attr-defined]
    logging.Logger.callHandlers = tapped  # type: ignore[method-assign]


def _wrap(original: Callable[..., Any]) -> types.FunctionType:
    taking = take

    def callHandlers(self: logging.Logger, record: logging.LogRecord) -> None:
        try:
            original(self, record)
        finally:
            taking(record)

    assert isinstance(callHandlers, types.FunctionType)
    return callHandlers


def _inside_logging(function: types.FunctionType) -> types.FunctionType:
    """Give a function logging's own file name.

    `Handler.handleError` prints the caller's stack from the first frame outside of logging: ours
    must not be that frame.
    """
    inside = getattr(logging.Logger.info, "__code__").co_filename  # noqa: B009 - for mypy
    function.__code__ = function.__code__.replace(co_filename=inside)
    return function
