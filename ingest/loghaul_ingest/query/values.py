"""Tests on one value of a field: equality, wildcards, ranges, presence.

Values are what JSON knows; a missing one is None and satisfies nothing. Comparison is of numbers
where both sides are numbers, else of text without regard to case.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from loghaul_ingest.block import Facts
from loghaul_ingest.query import fields
from loghaul_ingest.query.proposal import StreamTest


class ValueTest:
    """A test on the value of a field; `str()` writes it as it stands behind the colon."""

    def __call__(self, value: Any) -> bool:
        """Return whether the value satisfies the test."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Exists(ValueTest):
    """There is a value."""

    def __call__(self, value: Any) -> bool:
        """Return whether there is one."""
        return value is not None

    def __str__(self) -> str:
        return "*"


@dataclass(frozen=True, slots=True)
class Equals(ValueTest):
    """The value is this; of a path also its last parts (`file:70_driver_log.txt`)."""

    text: str
    path: bool = False

    def __call__(self, value: Any) -> bool:
        """Return whether it is."""
        if value is None:
            return False
        if isinstance(value, list):
            return any(self(item) for item in value)
        found, wanted = as_text(value).casefold(), self.text.casefold()
        if found == wanted or (self.path and found.endswith("/" + wanted)):
            return True
        left, right = as_number(value), as_number(self.text)
        return left is not None and left == right

    def __str__(self) -> str:
        return quoted(self.text)


@dataclass(frozen=True, slots=True)
class Glob(ValueTest):
    """The value has this form; `*` is any text. Of a path also its last parts."""

    pattern: str
    path: bool = False

    def __call__(self, value: Any) -> bool:
        """Return whether it has."""
        if value is None:
            return False
        if isinstance(value, list):
            return any(self(item) for item in value)
        return bool(_glob(self.pattern, self.path).fullmatch(as_text(value).casefold()))

    def __str__(self) -> str:
        return self.pattern


@dataclass(frozen=True, slots=True)
class Range(ValueTest):
    """Between two bounds, each with or without the bound itself; None is open."""

    low: str | None
    high: str | None
    with_low: bool = True
    with_high: bool = True

    def __call__(self, value: Any) -> bool:
        """Return whether it is between them."""
        if value is None:
            return False
        if self.low is not None and not _compare(">=" if self.with_low else ">", value, self.low):
            return False
        return self.high is None or _compare("<=" if self.with_high else "<", value, self.high)

    def __str__(self) -> str:
        if self.low is not None and self.high is None:
            return (">=" if self.with_low else ">") + quoted(self.low)
        if self.high is not None and self.low is None:
            return ("<=" if self.with_high else "<") + quoted(self.high)
        opening, closing = "[" if self.with_low else "{", "]" if self.with_high else "}"
        low, high = ("*" if bound is None else quoted(bound) for bound in (self.low, self.high))
        return f"{opening}{low} TO {high}{closing}"


@dataclass(frozen=True, slots=True)
class FactTest(StreamTest):
    """A value test on a fact of a stream; `inverted` for what stands behind a minus."""

    field: str
    test: ValueTest
    inverted: bool = False

    def __call__(self, facts: Facts) -> bool:
        """Return whether the facts satisfy it."""
        value: Any
        if self.field == "event.kind":
            value = facts.kind
        elif self.field == "writer":
            value = facts.stream.writer
        elif self.field == "run.id":
            value = facts.stream.run
        else:
            value = fields.stream_value(self.field, facts.common)
        return self.test(value) != self.inverted


def holds(operator: str, left: float, right: float) -> bool:
    """Return `left operator right`, for `>=`, `>`, `<=`, `<`."""
    if operator == ">=":
        return left >= right
    if operator == ">":
        return left > right
    return left <= right if operator == "<=" else left < right


def quoted(text: str) -> str:
    """Return a text in quotation marks."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def as_text(value: Any) -> str:
    """Return a JSON value as people write it."""
    if value is True or value is False:
        return "true" if value else "false"
    return value if isinstance(value, str) else str(value)


def as_number(value: Any) -> float | None:
    """Return the number that a value is or says, None if it is none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        return value
    if not isinstance(value, str) or not _NUMBER.fullmatch(value):
        return None
    return float(value)


_NUMBER = re.compile(r"[+-]?(?:\d{1,300}(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,4})?", re.ASCII)


def _compare(operator: str, value: Any, bound: str) -> bool:
    left, right = as_number(value), as_number(bound)
    if left is not None and right is not None:
        return holds(operator, left, right)
    found, wanted = as_text(value).casefold(), bound.casefold()
    if found == wanted:
        return operator in (">=", "<=")
    return (found > wanted) == (operator in (">=", ">"))


@lru_cache(maxsize=256)
def _glob(pattern: str, path: bool) -> re.Pattern[str]:
    # Neighbouring stars are one: several would make the expression backtrack without end.
    parts = [re.escape(part) for part in re.split(r"\*+", pattern.casefold())]
    # The lazy form stops at the first place that fits and an atomic group keeps it there: linear,
    # and complete, because only the last part is bound to the end.
    middle = "".join(f"(?>.*?{part})" for part in parts[1:-1])
    tail = f".*{parts[-1]}" if len(parts) > 1 else ""
    start = "(?:.*/)?" if path else ""
    return re.compile(start + parts[0] + middle + tail, re.DOTALL)
