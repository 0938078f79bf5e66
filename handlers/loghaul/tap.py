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

from loghaul import claims, handler, health, outlet
from loghaul.hot import take

#: ast.PyCF_ONLY_AST, without loading ast.
_ONLY_TREE = 0x400

#: Appended to by `keep` while somebody (see `warned`) wants to know whether records come.
watchers: list[list[Any]] = []


def hook_folder() -> Path:
    """Return the folder that goes first on PYTHONPATH, with nothing but sitecustomize.py in it."""
    return Path(__file__).resolve().parent / "_hook"


def keep(record: logging.LogRecord, mine: list[Any]) -> None:
    """Take a record that no handler of ours took."""
    for watcher in watchers:
        watcher.append(record.thread)
    if claims.keep(record, mine):
        take(record, outlet.DEFAULT)


def install() -> None:
    """Tap all loggers; a second time, or beside another copy of loghaul, does nothing."""
    original = logging.Logger.callHandlers
    if getattr(original, "is_loghaul_tap", False):
        return
    handler.share(tapped=True)
    try:
        tapped = _grafted(original)
    except Exception as error:  # noqa: BLE001 - no source, or somebody else's function
        health.note("tap is a wrapper", error)
        tapped = _wrapped(original)
    tapped.is_loghaul_tap = True  # type: ignore[attr-defined]
    logging.Logger.callHandlers = tapped  # type: ignore[method-assign]


def _wrapped(original: Callable[..., Any]) -> Callable[..., Any]:
    reserving, keeping = claims.reserve, keep

    def callHandlers(self: logging.Logger, record: logging.LogRecord) -> None:
        mine = reserving(record)
        try:
            original(self, record)
        finally:
            keeping(record, mine)

    return callHandlers


def _grafted(original: Any) -> Callable[..., Any]:
    """Return logging's own function with the tap's two calls grafted into its body.

    `Handler.handleError` and tracebacks print the stack: a frame of ours on it would change what
    the script prints. Compiled from logging's source, at its own lines, there is none.
    """
    code = original.__code__
    if original.__module__ != "logging" or code.co_filename != logging.info.__code__.co_filename:
        raise ValueError(f"callHandlers is not logging's own, but of {original.__module__}")
    tree: Any = _parsed(_source_of(code), code.co_filename)
    function = tree.body[0].body[0]
    frame = _parsed(
        "_mine = _loghaul_reserve(record)\ntry:\n pass\nfinally:\n _loghaul_keep(record, _mine)",
        code.co_filename,
    )
    _move_to(frame, function.end_lineno)
    frame.body[1].body = function.body
    function.body = frame.body
    names: dict[str, Any] = vars(logging)
    names["_loghaul_reserve"], names["_loghaul_keep"] = claims.reserve, keep
    made: dict[str, Any] = {}
    exec(compile(tree, code.co_filename, "exec"), names, made)
    result: Any = made["callHandlers"]
    result.__qualname__, result.__module__ = original.__qualname__, original.__module__
    return result  # type: ignore[no-any-return]


def _parsed(source: str, file: str) -> Any:
    return compile(source, file, "exec", _ONLY_TREE)


def _source_of(code: types.CodeType) -> str:
    """Return a method's source as a block of its own, at the same lines and columns."""
    with open(code.co_filename, encoding="utf-8") as file:
        lines = file.read().splitlines()
    first = code.co_firstlineno - 1
    end = first + 1
    while not lines[end].strip() or lines[end].startswith("        "):
        end += 1
    return "\n" * (first - 1) + "if 1:\n" + "\n".join(lines[first:end]) + "\n"


def _move_to(node: Any, line: int) -> None:
    """Give a small tree the place of a line, all of it."""
    if hasattr(node, "lineno"):
        node.lineno = node.end_lineno = line
        node.col_offset = node.end_col_offset = 8
    for name in getattr(node, "_fields", ()):
        value = getattr(node, name)
        for child in value if isinstance(value, list) else [value]:
            if hasattr(child, "_fields"):
                _move_to(child, line)
