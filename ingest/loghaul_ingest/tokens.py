"""What can be asked of a block by value: `Block.fields`, and what a query asks for.

A token is "level=error", "logger=azure.core", "error.type=valueerror", "extra.epoch=3". Values are
compared as queries compare them: without regard to case, numbers as numbers (3 is 3.0); of a list
each element; longer ones are cut at 128 characters.

A block holds at most MAX_PER_KEY values of one key and MAX_TOKENS in all. What does not fit is
replaced by tokens that say so: "extra.step=*" may hold any value of that key, "extra.*" any extra
at all, "*" anything. So a query must never ask for a token alone but for `asked(...)`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from loghaul_ingest.layouts import Said
from loghaul_ingest.records import as_text

MAX_TOKENS = 256
MAX_PER_KEY = 32
MAX_CHARACTERS = 128
ANYTHING = "*"
ANY_EXTRA = "extra.*"

#: ECS fields that blocks know by value, and their short names in tokens.
NAMES = {"log.level": "level", "log.logger": "logger", "error.type": "error.type"}

_NUMBER = re.compile(r"[+-]?(?:\d{1,300}(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,4})?", re.ASCII)


def asked(field: str, value: Any) -> frozenset[str] | None:
    """Return the tokens of which a block has one if an event of it has this value of an ECS field.

    None: blocks do not know this field by value. For `Value(any_of=...)`.
    """
    if field in NAMES:
        name = NAMES[field]
        return frozenset((token(name, value), f"{name}=*", ANYTHING))
    if field.startswith("extra."):
        return frozenset((token(field, value), f"{field}=*", ANY_EXTRA, ANYTHING))
    return None


def token(name: str, value: Any) -> str:
    """Return the token of one value."""
    return f"{name}={_canonical(value)[:MAX_CHARACTERS]}"


class Collected:
    """The tokens of a block, collected within their bounds."""

    def __init__(self) -> None:
        self._by_name: dict[str, set[str]] = {}
        self._extras = 0
        self._any_extra = False

    def add(self, name: str, value: Any) -> None:
        """Take a value of "level", "logger", "error.type"."""
        values = self._by_name.setdefault(name, set())
        if len(values) <= MAX_PER_KEY:
            values.add(token(name, value))

    def add_said(self, said: Said) -> None:
        """Take what the layout of a line says, except for its level."""
        if said.logger:
            self.add("logger", said.logger)
        if said.error_type:
            self.add("error.type", said.error_type)

    def add_fields(self, fields: Iterable[tuple[str, Any]]) -> None:
        """Take the fields of an event: those of NAMES and the extras, the others are skipped."""
        for field, value in fields:
            if field.startswith("extra."):
                if self._any_extra:
                    continue
                self._add_extra(field, value)
            elif field in NAMES:
                self.add(NAMES[field], value)

    def add_anything(self) -> None:
        """Say that there may be extras that were not taken."""
        self._any_extra = True

    def _add_extra(self, field: str, value: Any) -> None:
        values = self._by_name.get(field)
        if values is None:
            if self._extras >= MAX_TOKENS or len(field) > MAX_CHARACTERS:
                self._any_extra = True
                return
            self._extras += 1
            values = self._by_name[field] = set()
        if len(values) > MAX_PER_KEY:
            return
        for item in value[: MAX_PER_KEY + 1] if isinstance(value, list) else (value,):
            values.add(token(field, item))

    def tokens(self) -> frozenset[str]:
        """Return what a block holds: at most MAX_TOKENS and a few."""
        found: set[str] = set()
        extras = 0
        for name, values in self._by_name.items():
            kept = values if len(values) <= MAX_PER_KEY else {f"{name}=*"}
            if name.startswith("extra."):
                if extras + len(kept) > MAX_TOKENS:
                    kept = {f"{name}=*"}
                if extras >= MAX_TOKENS:
                    self._any_extra = True
                    continue
                extras += len(kept)
            found |= kept
        if self._any_extra:
            found = {one for one in found if not one.startswith("extra.")} | {ANY_EXTRA}
        return frozenset(found)


def _canonical(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return _number(value)
    if isinstance(value, str):
        return _text(value)
    return "null" if value is None else as_text(value).casefold()


@lru_cache(maxsize=4096)
def _text(value: str) -> str:
    return _number(value) if _NUMBER.fullmatch(value) else value.casefold()


def _number(value: float | str) -> str:
    try:
        return repr(float(value))
    except OverflowError:
        return str(value)
