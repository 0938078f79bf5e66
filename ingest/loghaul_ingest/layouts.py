r"""The layouts in which plain text says a level, as one compiled expression.

It is anchored at the newline before a line, so that a search jumps from line to line with memchr,
and fails within a few characters on a line that says nothing. What must hold for every part of it:
nothing matches a newline, no part backtracks over more than a line, and prose that merely mentions
"error" or "info" does not match: a level counts where a layout puts one. A group that is repeated
without backtracking is written (?>(?:...)*): before 3.11.5 Python matches (?:...)*+ wrongly.

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
from functools import cache
from itertools import count
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
_UPPER = _MAJOR + _MINOR
_LOWER = tuple(name.lower() for name in _UPPER) + tuple(name.title() for name in _UPPER)
_BEFORE_MESSAGE = ("error", "warning", "fatal", "critical", "info", "debug", "Error", "Warning")
_BLANK = r"[ \t]"
_NAME = r"[A-Za-z_][\w.$-]*+"
_OVER = r"(?=:[ \t]|:?(?:\n|\Z))"

_DATE = r"(?>(?:\d{4}|\d\d?)[-/.]\d\d?(?:[-/.]\d{2,4})?)"
_ZONE = r"(?: ?(?:Z|UTC|[AP]M|[+-]\d\d:?\d\d)(?![A-Za-z0-9]))?"
_CLOCK = rf"(?>\d\d?:\d\d(?::\d\d(?:[.,:]\d{{1,9}})?)?{_ZONE})"
_TIME = (
    rf"(?>[\[(<]?(?:\d{{4}}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:[.,]\d{{1,9}})?{_ZONE}"
    rf"|(?:{_DATE}[ T_,]{{1,2}})?{_CLOCK}"
    rf"|(?:[A-Z][a-z]{{2}},? )?[A-Z][a-z]{{2}} [ \d]\d {_CLOCK}(?: \d{{4}})?)[\])>]?)"
)
_SEPARATOR = rf"(?>{_BLANK}*(?:[|:,;-]{{1,2}}{_BLANK}*)?)"
# What may stand between a time and a level: name|, name -, [main], a pid. Never plain words.
_WORD = r"[\w.@$<>/+-]"
_ITEM = (
    rf"(?:(?P<between>[A-Za-z_<]{_WORD}*+(?>(?::{_WORD}++)*)){_BLANK}*+(?:\||-(?={_BLANK})|:(?={_BLANK})|\t)"
    r"|[\[{(<][^\[\]{}()<>\"\n]{0,80}+[\]})>]"
    r"|\d++(?![\w.:%]))"
)
_LAUNCHER = (
    r"(?:\[(?:rank|default|trainer)?\d+(?:,\d+)?\](?:<std(?:out|err)>)?:? ?"
    r"|\([^()\n]{0,60}pid=\d+[^()\n]{0,40}\) ?)?"
)
_METRICS = (
    "Squared",
    "Absolute",
    "Percentage",
    "Relative",
    "Reconstruction",
    "Mean",
    "Logarithmic",
)
_NO_METRIC = "".join(f"(?<!{name}Error)" for name in _METRICS)
_KINDS = ("Error", "Exception", "Warning", "Interrupt", "Exit", "Iteration", "ExceptionGroup")
_RAISED = "(?:" + "|".join(f"(?<={kind})" for kind in _KINDS) + ")"

# In these, <level: ...> is what is to be found; see `_compiled`.
_NCCL = rf"NCCL (?P<level>{_spelled('INFO', 'WARN', 'ERROR', 'TRACE')})"
_TIMED = (
    # B: behind a time
    rf"(?:{_ITEM}{_SEPARATOR}){{0,3}}?(?:"
    rf"[\[(<]?{_BLANK}*(?P<level>{_spelled(*_UPPER)})(?=[ \t\n:|\]),/>-]|\Z)"
    rf"(?:{_BLANK}-{_BLANK}(?P<logger>{_NAME})(?={_BLANK}-{_BLANK}))?"
    rf"|[\[<|]{_BLANK}*(?P<level>{_spelled(*_LOWER)})(?={_BLANK}*[\]>|])"
    rf"|(?P<level>{_spelled(*_LOWER)})(?=\t|{_BLANK}*\||{_BLANK}-{_BLANK})"
    r"|(?P<level>[DIWEF])(?= [\w./-]+:\d+\]))"
    rf"|{_NCCL}"
)
_UNTIMED = (
    # A, C, F, of lines that begin with a large letter
    r"(?=[A-Z])(?:"
    rf"(?P<level>{_spelled(*_MAJOR)})(?::(?P<logger>{_NAME})(?=:)|(?=[ \t\n:|\]/>!]|-{_BLANK}|\Z))"
    rf"|(?P<level>{_spelled(*_MINOR)})(?={_BLANK}*[:|\]])"
    r"|(?P<level>[DIWEF])(?=\d{4,8} \d\d:\d\d:\d\d)"
    r"|(?P<traceback>Traceback \(most recent call last\):)"
    rf"|(?!(?:Error|Warning|Exit)\b)(?P<error>(?>(?:\w++\.)*)[A-Z]\w*+){_OVER}{_RAISED}{_NO_METRIC})",
    # A, C, of lines that begin with a bracket
    r"(?=[\[<|])(?:"
    rf"[\[<|]{_BLANK}*(?P<level>{_spelled(*_UPPER, *_LOWER)})(?={_BLANK}*[\]>|]|{_BLANK}+\d)"
    r"|\[(?P<level>[DIWEF])(?=\d{4,8} \d\d:\d\d:\d\d)"
    rf"|\[(?P<level>[DIWEFC])(?= (?:{_DATE} )?{_CLOCK})"
    r"|\[(?P<level>[DIWEF])(?= [\w./-]+\.\w{1,4}:\d+\]))",
    # A, D, E, F, of lines that begin with any letter or a digit
    r"(?=[A-Za-z0-9_])(?:"
    rf"(?P<level>{_spelled(*_BEFORE_MESSAGE)})"
    rf"(?=:{_BLANK}+(?!nan\b|inf\b|NaN\b|None\b)[A-Za-z'\"`/(\[])"
    rf"|{_NCCL}"
    rf"|(?:level|lvl|severity|log\.level)=\"?"
    rf"(?P<level>{_spelled(*_LOWER, *_UPPER)})(?=[\" \t\n]|\Z)"
    rf"|(?P<error>(?>(?:[A-Za-z_]\w*+\.)+)[A-Z]\w*+){_OVER}{_RAISED}{_NO_METRIC}"
    rf"|(?P<error>[a-z_][\w.]*\.(?:exceptions?|errors?|errorfactory)\.[A-Z]\w*+){_OVER})",
    # F
    r"[ |+]*+(?P<traceback>(?:Exception Group )?Traceback \(most recent call last\):)",
    r"[^ \t\n:]{1,250}+:\d++: (?P<error>(?>(?:[A-Za-z_]\w*+\.)*)[A-Z]\w*+)(?<=Warning)(?=:)",
    # G
    rf"(?P<record>\{{{_BLANK}*\"[^\n]*+)",
)
_BEFORE_NCCL = (
    r"[\w.-]++:\d+:\d+ \[\d+\] (?:[\d.]+ )?(?:[\w./-]+:\d+ )?(?=NCCL )"  # host:pid:tid [0]
)
_LOGFMT = (
    r"(?=[\w.@-]++=)"
    rf"(?:[\w.@-]++=(?:\"[^\"\\\n]*(?:\\.[^\"\\\n]*)*\"|[^ \t\n\"]*+){_BLANK}+){{0,8}}?"
    r"(?=(?:level|lvl|severity|log\.level)=)"
)
# Most lines of most logs, said once more and first: a search of them takes half the time.
_USUAL_TIME = (
    r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:[.,]\d{1,9}|)"
    r"(?:\|(?=[A-Za-z_])| - (?=[A-Za-z_])| (?=[DIWECF\[]))"
)
_USUAL_HEADER = rf"(?P<between>[a-z_]{_WORD}*+)(?:\|| - )(?P<level>{_spelled(*_MAJOR)})(?=\|| - )"
_GROUP = re.compile(r"\(\?P<(\w+)>")


@cache
def line() -> re.Pattern[bytes]:
    """Return what finds the lines that may say something; made when it is first needed: 20 ms.

    Groups 1 and 2 are empty: they only tell whether a time stands before. Where a group may be left
    out, an empty alternative is faster than a `?`.
    """
    text = (
        rf"\n(?:{_USUAL_TIME}()|(?:(?=[\[(]){_LAUNCHER}|){_BLANK}*+"
        rf"(?>(?:{_TIME}{_SEPARATOR}()(?:{_BEFORE_NCCL}|)|{_BEFORE_NCCL}|{_LOGFMT})?))"
        rf"((?(1)(?:{_USUAL_HEADER}|{_TIMED})|(?(2)(?:{_TIMED})|(?:{'|'.join(_UNTIMED)}))))"
    )
    return re.compile(_GROUP.sub("(?:", text).encode(), re.ASCII)


#: The group of `line` that is the header of a line: what says its level, without its time, so that
#: the headers of many lines are few.
HEADER = 3


@cache
def _header() -> re.Pattern[bytes]:
    """The same parts over a header alone: what was looked at behind it is its end now."""
    numbers = count()
    text = "|".join((*_UNTIMED, _TIMED)).replace("(?=", r"(?=\Z|")
    return re.compile(
        _GROUP.sub(lambda match: f"(?P<{match[1]}_{next(numbers)}>", text).encode(), re.ASCII
    )


class Said(NamedTuple):
    """What the layout of a line says.

    record   the whole of a JSON object's line
    """

    level: str | None = None
    logger: str | None = None
    error_type: str | None = None
    record: bytes | None = None


def prepared(data: bytes) -> bytes:
    """Return text in which `line` may search, of equal length; put a newline before it."""
    data = blank(data, TEXT)
    return data.replace(b"\r", b"\n") if b"\r" in data else data


def said(header: bytes) -> Said:
    """Return what the header of a line says: group HEADER of a match of `line`."""
    if header.startswith(b"{") and header[1:].lstrip(b" \t").startswith(b'"'):
        return Said(record=header)
    found = _SAID.get(header)
    if found is None:
        if len(_SAID) > 4096:
            _SAID.clear()
        found = _SAID[header] = _say(header)
    return found


_SAID: dict[bytes, Said] = {}


def _say(header: bytes) -> Said:
    match = _header().fullmatch(header)
    if match is None:
        return Said()
    values = {
        name.partition("_")[0]: text for name, text in match.groupdict().items() if text is not None
    }
    if "traceback" in values:
        return Said("error")
    if error := values.get("error"):
        name = error.decode("ascii")
        return Said("warning" if name.endswith("Warning") else "error", None, name)
    level, logger = values["level"], values.get("logger") or values.get("between")
    return Said(
        levels.canonical(level.decode("ascii")),
        logger.decode("ascii") if logger else None,
    )
