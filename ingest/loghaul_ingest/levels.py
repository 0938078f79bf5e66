"""Names of levels: how lines spell them, how loghaul writes them, and their order.

A level is written in lower case by Python's name for it (`WARN` is "warning", `FATAL` "critical");
a name that Python has none for keeps its own. Numbers are Python's.
"""

from __future__ import annotations

#: Names that have a place in the order.
SEVERITY = {
    "trace": 5,
    "debug": 10,
    "verbose": 15,
    "info": 20,
    "success": 25,
    "notice": 25,
    "warning": 30,
    "error": 40,
    "critical": 50,
    "panic": 50,
    "alert": 55,
    "emergency": 60,
}
#: Events from here on have their words in a block's `words_high`.
HIGH = SEVERITY["warning"]

_SAME = {
    "warn": "warning",
    "wrn": "warning",
    "err": "error",
    "severe": "error",
    "exception": "error",
    "fatal": "critical",
    "crit": "critical",
    "emerg": "emergency",
    "information": "info",
    "informational": "info",
    "dbg": "debug",
    "inf": "info",
}
_LETTERS = {
    "D": "debug",
    "I": "info",
    "W": "warning",
    "E": "error",
    "F": "critical",
    "C": "critical",
}


def canonical(name: str) -> str:
    """Return loghaul's name of a level: lower case, one per meaning."""
    if len(name) == 1 and name in _LETTERS:
        return _LETTERS[name]
    name = name.strip().lower()
    return _SAME.get(name, name)


def severity(level: str | None, number: int | None = None) -> int:
    """Return Python's number of a level: of its name, else `number` (the record's own), else 0."""
    if level is None:
        return number or 0
    return SEVERITY.get(level, number or 0)


def of_number(number: float) -> str | None:
    """Return the level that a number means in JSON lines whose names are numbers.

    10 to 60 are bunyan's and pino's, 0 to 7 those of syslog and GELF. Others mean nothing.
    """
    if not 0 <= number < 100:
        return None
    if number < 8:
        return _SYSLOG[int(number)]
    return _PINO[int(number) // 10]


_SYSLOG = ("emergency", "alert", "critical", "error", "warning", "notice", "info", "debug")
_PINO = (None, "trace", "debug", "info", "warning", "error", "critical", *(["critical"] * 3))


def of_levelno(number: float) -> str | None:
    """Return the level of one of Python's numbers."""
    names = {10: "debug", 20: "info", 30: "warning", 40: "error", 50: "critical"}
    return names.get(int(number)) if 0 < number < 1000 else None


def of_otlp(number: float) -> str | None:
    """Return the level of one of OpenTelemetry's numbers: four of each, from 1."""
    names = ("trace", "debug", "info", "warning", "error", "critical")
    return names[(int(number) - 1) // 4] if 1 <= number <= 24 else None
