"""Where events end: the one place that knows it, for sealing and for reading alike.

In a text stream an event ends behind a newline, or behind a carriage return that no newline
follows (a state of a progress bar); in an events stream behind a newline; a blob has no events.
A carriage return at the end of the data is an end only when it is known that no newline comes:
`more` says whether bytes may follow, and as long as they may, such an event is not over yet. It is
over in the block that holds the byte which settles it, or at the end of the stream.

Everything here is a few calls into C per block, whatever the number of lines.
"""

from __future__ import annotations

import re
from itertools import accumulate, repeat
from operator import add

from loghaul.chunk import EVENTS, TEXT

# Twice as fast as counting "\r" and "\r\n".
_STATE = re.compile(rb"\r(?!\n)")

Span = tuple[int, int]
"""(start, end) of an event in a buffer; `end` is behind the terminator."""


def ends(data: bytes, kind: str, more: bool = True) -> list[int]:
    """Return the positions behind the events that end in `data`, ascending."""
    if kind == EVENTS and b"\r" in data:
        pieces = data.split(b"\n")
        return list(accumulate(map(add, map(len, pieces[:-1]), repeat(1))))
    if kind not in (TEXT, EVENTS):
        return []
    found = list(accumulate(map(len, data.splitlines(keepends=True))))
    if found and not _terminated(data, more):
        found.pop()
    return found


def spans(data: bytes, kind: str, more: bool = True) -> list[Span]:
    """Return (start, end) of every event that ends in `data`, which begins with an event."""
    found = ends(data, kind, more)
    return list(zip([0, *found[:-1]], found, strict=True)) if found else []


def count(data: bytes, kind: str, more: bool = True) -> int:
    """Return how many events end in `data`."""
    return tally(data, kind, more)[0]


def tally(data: bytes, kind: str, more: bool = True) -> tuple[int, int]:
    """Return `count` and `progress` for the price of one."""
    if kind not in (TEXT, EVENTS):
        return 0, 0
    states = progress(data, kind, more)
    return data.count(b"\n") + states, states


def progress(data: bytes, kind: str, more: bool = True) -> int:
    """Return how many of the events that end in `data` are states that were overwritten."""
    if kind != TEXT or b"\r" not in data:
        return 0
    undecided = 1 if more and data.endswith(b"\r") else 0
    return len(_STATE.findall(data)) - undecided


def nth_end(data: bytes, kind: str, nth: int, start: int = 0, more: bool = True) -> int:
    """Return the position behind the `nth` event (from 1) that ends after `start`; -1: fewer end.

    `start` is behind an event, or anywhere within one.
    """
    if kind not in (TEXT, EVENTS):
        return -1
    rest = data[start:] if start else data
    if kind == TEXT and b"\r" in rest:
        if more and rest.endswith(b"\r"):
            rest = rest[:-1]
        rest = _STATE.sub(b"\n", rest)
    pieces = rest.split(b"\n", nth)
    return start + len(rest) - len(pieces[nth]) if len(pieces) > nth else -1


def last_end(data: bytes, kind: str, more: bool = True, start: int = 0) -> int:
    """Return the position behind the last event that ends in `data[start:]`; `start`: none does.

    What lies behind it is the beginning of an event that is not over: the next block's head.
    """
    if kind not in (TEXT, EVENTS):
        return start
    found = data.rfind(b"\n", start) + 1 or start
    if kind == TEXT:
        stop = len(data) - 1 if more else len(data)
        found = max(found, data.rfind(b"\r", found, max(found, stop)) + 1)
    return found


def _terminated(data: bytes, more: bool) -> bool:
    """Whether the last piece of `splitlines` is an event that is over."""
    return data.endswith(b"\n") or (data.endswith(b"\r") and not more)
