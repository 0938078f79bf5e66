"""Who takes a record: of the tap, the handlers and the processor only the first one does.

A record may pass several of them, also as a copy behind a queue, and in an order that nobody
knows. Nothing is written on the record, because formatters of others would print it. Copies of a
record share its `relativeCreated`, a float made for this record alone: its identity is the claim.
The registry hangs on the `logging` module, so that two copies of loghaul in one process share it.

Records of another process keep no identity. Where that process has the hook too, it has taken
them itself.
"""

from __future__ import annotations

import logging
import os
import sys
from threading import get_ident
from typing import Any

#: Claims are kept for at least this many further records.
MAX_CLAIMS = 4096

#: By identity of a record's float: the float, and the record while the tap still waits for others.
_Claims = dict[int, list[Any]]
#: The claims of late, the ones before them, and the time of the oldest that is known of.
_kept: list[Any] = logging.__dict__.setdefault("_loghaul_claims", [{}, {}, -1.0])
_announced: dict[int, tuple[str, Any]] = {}
_hooked: dict[int, bool] = {}
_pid = os.getpid()
_TAKEN: list[Any] = [0.0, None]


def reserve(record: logging.LogRecord) -> list[Any]:
    """Claim a record for the tap before its handlers run, which may still take it over.

    Copies of it, in whatever thread, are refused from now on. Returns what `keep` wants.
    """
    mark = record.relativeCreated
    mine = [mark, record]
    claims: _Claims = _kept[0]
    if id(mark) in _kept[1] or claims.setdefault(id(mark), mine) is not mine:
        return _TAKEN
    if len(claims) > MAX_CLAIMS:
        _forget(claims)
    return mine


def keep(record: logging.LogRecord, mine: list[Any]) -> bool:
    """Return whether a reserved record is still the tap's, now that its handlers are done."""
    if mine[1] is None:
        return False
    mine[1] = None
    return _is_ours(record)


def claim(record: logging.LogRecord, late: bool = False) -> bool:
    """Return True for the first caller with this record or a copy of it, False for all others.

    late: the tap takes every record, if nobody else does; so a copy that is older than the oldest
    claim was its.
    """
    mark = record.relativeCreated
    # A claim holds the float, so that its identity is not given to another one.
    mine = [mark, None]
    claims: _Claims = _kept[0]
    first = _kept[1].get(id(mark)) or claims.setdefault(id(mark), mine)
    if first is not mine:
        if first[1] is not record:
            return False
        first[1] = None
    elif late and mark < _kept[2]:
        del claims[id(mark)]
        return False
    elif len(claims) > MAX_CLAIMS:
        _forget(claims)
    return _is_ours(record)


def _is_ours(record: logging.LogRecord) -> bool:
    """Neither taken by the process it came from nor announced by the processor."""
    if record.process != _pid and record.process and took_itself(record.process):
        return False
    return not (_announced and was_announced(record))


def _forget(claims: _Claims) -> None:
    """Let the older half go; dictionaries keep the order of insertion."""
    _kept[1], _kept[0] = claims, {}
    _kept[2] = next(iter(list(claims.values())))[0]


def _forked() -> None:
    global _pid
    _pid = os.getpid()


os.register_at_fork(after_in_child=_forked)


def announce(logger: str, event: Any) -> None:
    """Note that the processor took `event`, which may come again as this thread's next record."""
    _announced[get_ident()] = (logger, event)


def was_announced(record: logging.LogRecord) -> bool:
    """Return whether the record is the announced event of its thread in another shape."""
    logger, event = _announced.get(record.thread or 0, ("", None))
    if event is None or logger != record.name:
        return False
    message = record.msg
    if isinstance(message, dict):
        same = message.get("event") is event
    else:
        same = message is event or (isinstance(message, str) and _words_in(event, message))
    if same:
        _announced.pop(record.thread or 0, None)
    return same


def _words_in(event: Any, rendered: str) -> bool:
    """A rendered event holds its words, whatever quoting is around them."""
    return isinstance(event, str) and all(word in rendered for word in event.split()[:20])


def took_itself(pid: int) -> bool:
    """Return whether that process takes its own records: it does where it has the hook.

    Where nothing can be read of it any more, it is like this one.
    """
    if pid not in _hooked:
        if len(_hooked) > MAX_CLAIMS:
            _hooked.clear()
        _hooked[pid] = _has_hook(pid)
    return _hooked[pid]


def _has_hook(pid: int) -> bool:
    here = "LOGHAUL_RUN_ID" in os.environ and "loghaul.hook" in sys.modules
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            environment = file.read().split(b"\0")
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            flags = [word for word in file.read().split(b"\0")[1:4] if word[:1] == b"-"]
    except OSError:
        return here
    isolated = any(flag[:2] != b"--" and set(flag) & set(b"IES") for flag in flags)
    hooked = any(b"_hook" in row for row in environment if row.startswith(b"PYTHONPATH="))
    return here and hooked and not isolated
