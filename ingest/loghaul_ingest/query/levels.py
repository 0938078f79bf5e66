"""The order of level names, for `level:>=warning`.

A name that nobody ordered (a logger's own level) can be asked for by name only.
"""

from __future__ import annotations

#: Python's numbers; the names of other systems stand at their neighbours.
SEVERITY = {
    "trace": 5,
    "debug": 10,
    "verbose": 15,
    "info": 20,
    "information": 20,
    "success": 25,
    "notice": 25,
    "warn": 30,
    "warning": 30,
    "err": 40,
    "error": 40,
    "exception": 40,
    "critical": 50,
    "fatal": 50,
    "panic": 50,
    "alert": 55,
    "emergency": 60,
}
_SAME = (
    frozenset({"warn", "warning"}),
    frozenset({"err", "error"}),
    frozenset({"critical", "fatal"}),
    frozenset({"info", "information"}),
)


def same_as(name: str) -> frozenset[str]:
    """Return the names that mean this level, itself among them."""
    name = name.lower()
    return next((names for names in _SAME if name in names), frozenset({name}))


def compared(operator: str, name: str) -> frozenset[str] | None:
    """Return the names of the levels `>=`, `>`, `<=`, `<` a level; None if it is in no order."""
    severity = SEVERITY.get(name.lower())
    if severity is None:
        return None
    return frozenset(
        other for other, number in SEVERITY.items() if holds(operator, number, severity)
    )


def holds(operator: str, left: float, right: float) -> bool:
    """Return `left operator right`."""
    if operator == ">=":
        return left >= right
    if operator == ">":
        return left > right
    return left <= right if operator == "<=" else left < right
