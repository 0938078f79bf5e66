"""Any Python object as something JSON knows: nothing raises, nothing grows without bound.

Objects become text. A failing `__str__`, a circular or deep structure, a float or an integer that
JSON readers refuse cost their own place only, never the record they stand in.
"""

from __future__ import annotations

import math
from typing import Any

#: Deeper levels, and items beyond this many in all, become one text that says so.
MAX_DEPTH = 24
MAX_ITEMS = 10_000


def plain(value: Any, careful: bool = False) -> Any:
    """Return `value` made of dict, list, str, int, float, bool and None only.

    careful: call no code of the value's own class; objects become the name of their type.
    """
    return _Walk(careful).walk(value, 0)


def text(value: Any, careful: bool = False) -> str:
    """Return `str(value)`, or what can be said about it where that fails."""
    if type(value) is str:
        return value
    if careful and type(value) not in (int, float, bool, type(None)):
        return f"<{type(value).__name__}>"
    try:
        # A subclass of str may be returned by __str__; JSON wants the real one.
        return str.__str__(str(value))
    except Exception as error:  # noqa: BLE001 - foreign code may raise anything
        return f"<{type(value).__name__} object, its text failed: {type(error).__name__}>"


class _Walk:
    """One conversion, with what it may still spend."""

    def __init__(self, careful: bool) -> None:
        self.careful = careful
        self.left = MAX_ITEMS

    def walk(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if kind is str or kind is bool or value is None:
            return value
        if kind is int:
            # Beyond 64 bits most JSON readers lose digits or refuse.
            return value if -(2**63) <= value < 2**64 else _digits(value)
        if kind is float:
            return value if math.isfinite(value) else str(value)
        self.left -= 1
        if depth >= MAX_DEPTH or self.left < 0:
            return f"<{kind.__name__} nested too deeply>"
        if kind is dict:
            return self.mapping(value, depth)
        if kind in (list, tuple, set, frozenset):
            return self.sequence(value, depth)
        if self.careful:
            return f"<{kind.__name__}>"
        try:
            return self.other(value, kind, depth)
        except Exception as error:  # noqa: BLE001 - foreign code may raise anything
            return f"<{kind.__name__} object, its text failed: {type(error).__name__}>"

    def mapping(self, value: Any, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        # A copy: another thread may change the dict while it is walked.
        items = list(value.items())
        for number, (key, item) in enumerate(items):
            self.left -= 1
            if self.left < 0:
                found["..."] = f"{len(items) - number} more"
                break
            found[text(key, self.careful)] = self.walk(item, depth + 1)
        return found

    def sequence(self, value: Any, depth: int) -> list[Any]:
        items, found = list(value), []
        for number, item in enumerate(items):
            self.left -= 1
            if self.left < 0:
                found.append(f"... {len(items) - number} more")
                break
            found.append(self.walk(item, depth + 1))
        return found

    def other(self, value: Any, kind: type, depth: int) -> Any:
        """Convert what is none of JSON's types: numpy's, dates, enums, subclasses, objects."""
        if isinstance(value, BaseException):
            return f"{kind.__name__}: {value}"
        if isinstance(value, type):
            return f"{value.__module__}.{value.__qualname__}"
        if isinstance(value, (bytes, bytearray)):
            return bytes(value).decode("utf-8", "backslashreplace")
        if hasattr(kind, "__members__") and hasattr(value, "value"):
            return self.walk(value.value, depth + 1)
        for base, convert in ((str, str.__str__), (int, int), (float, float)):
            if isinstance(value, base):
                return self.walk(convert(value), depth + 1)
        if isinstance(value, dict):
            return self.mapping(value, depth)
        if isinstance(value, (list, tuple, set, frozenset)):
            named = getattr(value, "_asdict", None)
            return self.mapping(named(), depth) if named else self.sequence(value, depth)
        return self.array_or_text(value, kind, depth)

    def array_or_text(self, value: Any, kind: type, depth: int) -> Any:
        if hasattr(kind, "isoformat"):
            return text(value.isoformat())
        # numpy, torch and their like: one element has item(), an array tolist().
        if hasattr(kind, "item") and hasattr(kind, "tolist"):
            elements = getattr(value, "size", 1)
            elements = elements() if callable(elements) else elements
            if not getattr(value, "shape", ()):
                return self.walk(value.item(), depth + 1)
            if isinstance(elements, int) and elements <= MAX_ITEMS:
                return self.walk(value.tolist(), depth + 1)
            return text(value)
        if hasattr(kind, "__dataclass_fields__") and hasattr(value, "__dict__"):
            return self.mapping(vars(value), depth)
        return text(value)


def _digits(value: int) -> str:
    try:
        return str(value)
    except ValueError:  # more digits than sys.get_int_max_str_digits allows
        return hex(value)
