r"""The layouts in which plain text says a level, as one compiled expression.

It is anchored at the newline before a line, so that a search jumps from line to line with memchr,
and fails within a few characters on a line that says nothing. What must hold for every part of it:
nothing matches a newline, no part backtracks over more than a line, and prose that merely mentions
"error" or "info" does not match: a level counts where a layout puts one.

    A  LEVEL at the start          WARNING:root:msg · INFO - msg · [INFO|x.py:1] · error: msg
    B  a time, then LEVEL          2026-01-01 10:00:00,123 - name - INFO - msg · [time][name][INFO]
                                   time | INFO | · time INFO [main] · time|name|LEVEL|msg · [info  ]
    C  glog, absl, torch           I0102 12:34:56.789 1234 file.py:12] · [W socket.cpp:663]
    D  NCCL                        host:pid:tid [0] NCCL INFO msg
    E  logfmt                      time=... level=info msg=...
    F  Python's own                Traceback ... · pkg.SomeError: msg · x.py:3: UserWarning: msg
    G  a JSON object               taken apart by `records`

Colours are blanked before, and carriage returns are newlines here: see `prepared`.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from loghaul.chunk import TEXT
from loghaul_ingest import levels
from loghaul_ingest.words import blank


def _spelled(*names: str) -> str:
    """An alternation of words with common first letters taken out, so that most fail at once."""
    by_first: dict[str, list[str]] = {}
    for name in names:
        by_first.setdefault(name[0], []).append(name[1:])
    parts = [f"{first}(?:{'|'.join(rest)})" for first, rest in by_first.items()]
    return f"(?:{'|'.join(parts)})(?![A-Za-z0-9_])"


_MAJOR = ("DEBUG", "INFO", "WARNING", "WARN", "ERROR", "CRITICAL", "FATAL")
_MINOR = ("TRACE", "NOTICE", "SUCCESS", "ERR", "CRIT", "PANIC", "SEVERE", "EMERG", "ALERT")
_ALL = _MAJOR + _MINOR
_LOWER = tuple(name.lower() for name in _ALL) + tuple(name.title() for name in _ALL)
_BLANK = r"[ \t]"
_NAME = r"[A-Za-z_][\w.$-]{0,120}"

_DATE = r"(?:\d{4}|\d\d?)[-/.]\d\d?(?:[-/.]\d{2,4})?"
_CLOCK = (
    r"\d\d?:\d\d(?::\d\d(?:[.,:]\d{1,9})?)?(?: ?(?:Z|UTC|[AP]M|[+-]\d\d:?\d\d)(?![A-Za-z0-9]))?"
)
_TIME = (
    rf"(?:[\[(<]?(?:{_DATE}[ T_,]{{1,2}})?{_CLOCK}[\])>]?"
    rf"|[\[(]?(?:[A-Z][a-z]{{2}},? )?[A-Z][a-z]{{2}} [ \d]\d {_CLOCK}(?: \d{{4}})?[\])]?)"
)
_SEPARATOR = rf"(?>{_BLANK}*)(?:[|:,;-]{{1,2}}{_BLANK}*)?"
# What may stand between a time and a level: [main], name -, name|, a pid. Never plain words.
_ITEM = (
    r"(?:[\[{(<][^\[\]{}()<>\n]{0,80}[\]})>]"
    rf"|([A-Za-z_<][\w.:/@$<>+-]{{0,120}}?){_BLANK}*(?:\||-(?={_BLANK})|:(?={_BLANK})|\t)"
    r"|\d+(?![\w.:%]))"
)
_LAUNCHER = (
    r"(?:\[(?:rank|default|trainer)?\d+(?:,\d+)?\](?:<std(?:out|err)>)?:? ?"
    r"|\([^()\n]{0,60}pid=\d+[^()\n]{0,40}\) ?)?"
)
_METRIC_ERROR = r"(?!\w*(?:Squared|Absolute|Percentage|Relative|Reconstruction|Mean)\w*Error)"
_EXCEPTION = (
    rf"(?:(?:[A-Za-z_]\w*\.)*{_METRIC_ERROR}(?:[A-Z]\w*(?:Error|Exception|Warning|Interrupt|Exit"
    r"|Iteration|ExceptionGroup)|Exception)"
    r"|(?:[a-z_]\w*\.)+(?:exceptions?|errors?|errorfactory)\.[A-Z]\w*)"
)

_PARTS = (
    # A: level and logger, level alone, in brackets, in small letters before a message
    rf"({_spelled(*_MAJOR)})(?::({_NAME}):|(?=[ \t\n:|\]/>!]|-{_BLANK}|\Z))",
    rf"({_spelled(*_MINOR)})(?={_BLANK}*[:|\]])",
    rf"[\[<|]{_BLANK}*({_spelled(*_ALL, *_LOWER)})(?={_BLANK}*[\]>|]|{_BLANK}+\d)",
    rf"({_spelled('error', 'warning', 'fatal', 'critical', 'info', 'debug', 'Error', 'Warning')})"
    rf":{_BLANK}+(?=[A-Za-z'\"`/(\[])(?!(?:nan|inf|NaN|None)\b)",
    # B
    rf"{_TIME}{_SEPARATOR}(?:{_ITEM}{_SEPARATOR}){{0,3}}?(?:"
    rf"[\[(<]?{_BLANK}*({_spelled(*_ALL)})(?=[ \t\n:|\]),/>]|-|\Z)"
    rf"(?:{_BLANK}-{_BLANK}({_NAME}){_BLANK}-{_BLANK})?"
    rf"|[\[<|]{_BLANK}*({_spelled(*_LOWER)}){_BLANK}*[\]>|]"
    rf"|({_spelled(*_LOWER)})(?:\t|{_BLANK}*\||{_BLANK}-{_BLANK})"
    rf"|([DIWEF]) [\w./-]+:\d+\])",
    # C
    r"\[?([DIWEF])\d{4,8} \d\d:\d\d:\d\d",
    rf"\[([DIWEFC]) (?:{_DATE} )?{_CLOCK}",
    r"\[([DIWEF]) [\w./-]+\.\w{1,4}:\d+\]",
    # D
    rf"(?:{_TIME}{_BLANK}+)?[\w.-]+:\d+:\d+ \[\d+\] (?:[\d.]+ )?(?:[\w./-]+:\d+ )?"
    rf"NCCL ({_spelled('INFO', 'WARN', 'ERROR', 'TRACE')})",
    # E
    rf"(?:[\w.@-]+=(?:\"[^\"\\\n]*(?:\\.[^\"\\\n]*)*\"|[^ \t\n\"]*){_BLANK}+){{0,8}}?"
    rf"(?:level|lvl|severity|log\.level)=\"?({_spelled(*_LOWER, *_ALL)})(?=[\" \t\n]|\Z)",
    # F
    r"[ |+]*(?:Exception Group )?(Traceback) \(most recent call last\):",
    rf"({_EXCEPTION})(?=:{_BLANK}|:?\n|:?\Z)",
    r"[^ \t\n:]{1,250}:(?:\d+): ((?:[A-Za-z_]\w*\.)*[A-Z]\w*Warning):",
    # G
    rf"(\{{{_BLANK}*\"[^\n]*)",
)
_GROUPS = [
    "level",
    "logger",
    "level",
    "level",
    "level",
    "between",
    "level",
    "after",
    "level",
    "level",
    "level",
    "level",
    "level",
    "level",
    "level",
    "level",
    "traceback",
    "exception",
    "warning",
    "record",
]

LINE = re.compile(f"\n{_LAUNCHER}{_BLANK}*+(?:{'|'.join(_PARTS)})".encode(), re.ASCII)
assert LINE.groups == len(_GROUPS)


class Said(NamedTuple):
    """What the layout of a line says. `record` is the whole of a JSON object's line."""

    level: str | None = None
    logger: str | None = None
    error_type: str | None = None
    record: bytes | None = None


def prepared(data: bytes) -> bytes:
    """Return text in which LINE may search, of equal length; put a newline before it."""
    data = blank(data, TEXT)
    return data.replace(b"\r", b"\n") if b"\r" in data else data


def said(groups: tuple[bytes, ...]) -> Said:
    """Return what the groups of a match of LINE say (an unmatched group is empty)."""
    if groups[-1]:
        return Said(record=groups[-1])
    found = _SAID.get(groups)
    if found is None:
        if len(_SAID) > 4096:
            _SAID.clear()
        found = _SAID[groups] = _say(groups)
    return found


_SAID: dict[tuple[bytes, ...], Said] = {}


def _say(groups: tuple[bytes, ...]) -> Said:
    values = {
        name: text.decode("ascii", "backslashreplace")
        for name, text in zip(_GROUPS, groups, strict=True)
        if text
    }
    logger = values.get("logger") or values.get("between") or values.get("after")
    if "traceback" in values:
        return Said("error")
    if error := values.get("exception"):
        return Said("warning" if error.endswith("Warning") else "error", None, error)
    if warning := values.get("warning"):
        return Said("warning", None, warning)
    return Said(levels.canonical(values["level"]), logger)
