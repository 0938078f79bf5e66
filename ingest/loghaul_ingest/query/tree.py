"""What a query says, as a tree; `str()` of a tree is a query that parses to the same tree.

Every                         every line
Phrase(words)                 these words, one behind the other, nothing but punctuation between
Wild(pattern)                 the same with `*` for any part of a word
Text(text)                    these characters, case aside, wherever they stand (not ASCII)
Regex(pattern, ignore_case)   a regular expression of google-re2
Field(field, test)            a value of the stream or of the line
Within(field, node)           words, a wildcard or a text inside one field of the line
Level(names)                  the line's own level; None: it has one
Time(since, until)            [since, until) in microseconds, None is open
Not(part), And(parts), Or(parts)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from loghaul_ingest.query import times
from loghaul_ingest.query.values import ValueTest, quoted


@dataclass(frozen=True, slots=True)
class Every:
    """Every line."""

    def __str__(self) -> str:
        return "*"


@dataclass(frozen=True, slots=True)
class Phrase:
    """Words (lower case, as `words.words` writes them) that follow each other in one line."""

    words: tuple[bytes, ...]

    def __str__(self) -> str:
        text = b" ".join(self.words).decode("ascii")
        return text if len(self.words) == 1 else f'"{text}"'


@dataclass(frozen=True, slots=True)
class Wild:
    """A phrase with `*` in its words; "." stands between the words."""

    pattern: str

    def __str__(self) -> str:
        return self.pattern


@dataclass(frozen=True, slots=True)
class Text:
    """Characters as they stand, without regard to case."""

    text: str

    def __str__(self) -> str:
        return quoted(self.text)


@dataclass(frozen=True, slots=True)
class Regex:
    """A regular expression, as written between the slashes."""

    pattern: str
    ignore_case: bool = False

    def __str__(self) -> str:
        return f"/{self.pattern}/{'i' if self.ignore_case else ''}"


@dataclass(frozen=True, slots=True)
class Field:
    """A test on a value; `field` is the ECS name."""

    field: str
    test: ValueTest

    def __str__(self) -> str:
        return f"{self.field}:{self.test}"


@dataclass(frozen=True, slots=True)
class Within:
    """Words, a wildcard or a text inside the value of one field."""

    field: str
    node: Phrase | Wild | Text

    def __str__(self) -> str:
        return f"{self.field}:{self.node}"


@dataclass(frozen=True, slots=True)
class Level:
    """One of these levels; None: any."""

    names: frozenset[str] | None

    def __str__(self) -> str:
        if self.names is None:
            return "level:*"
        return f"level:({' OR '.join(quoted(name) for name in sorted(self.names))})"


@dataclass(frozen=True, slots=True)
class Time:
    """The line's time is in [since, until)."""

    since: int | None
    until: int | None

    def __str__(self) -> str:
        low, high = (
            "*" if bound is None else times.written(bound) for bound in (self.since, self.until)
        )
        return f"time:[{low} TO {high}}}"


@dataclass(frozen=True, slots=True)
class Not:
    """Not this."""

    part: Tree

    def __str__(self) -> str:
        return f"-{_grouped(self.part)}"


@dataclass(frozen=True, slots=True)
class And:
    """All of these, in one line."""

    parts: tuple[Tree, ...]

    def __str__(self) -> str:
        return " ".join(_grouped(part) for part in self.parts)


@dataclass(frozen=True, slots=True)
class Or:
    """At least one of these."""

    parts: tuple[Tree, ...]

    def __str__(self) -> str:
        return " OR ".join(_grouped(part) for part in self.parts)


Tree: TypeAlias = (
    Every | Phrase | Wild | Text | Regex | Field | Within | Level | Time | Not | And | Or
)


def all_of(parts: list[Tree]) -> Tree:
    """Return the conjunction, flat; `*` beside anything else says nothing."""
    flat: list[Tree] = []
    for part in parts:
        flat.extend(part.parts if isinstance(part, And) else (part,))
    flat = [part for part in dict.fromkeys(flat) if part != Every()] or [Every()]
    return flat[0] if len(flat) == 1 else And(tuple(flat))


def any_of(parts: list[Tree]) -> Tree:
    """Return the disjunction, flat, its sets of levels joined."""
    flat: list[Tree] = []
    for part in parts:
        flat.extend(part.parts if isinstance(part, Or) else (part,))
    flat = _joined_levels(list(dict.fromkeys(flat)))
    return flat[0] if len(flat) == 1 else Or(tuple(flat))


def negated(part: Tree) -> Tree:
    """Return the negation; a double one is none."""
    return part.part if isinstance(part, Not) else Not(part)


def _joined_levels(parts: list[Tree]) -> list[Tree]:
    named = [part.names for part in parts if isinstance(part, Level) and part.names is not None]
    if len(named) < 2:
        return parts
    joined = Level(frozenset().union(*named))
    kept: list[Tree] = []
    for part in parts:
        term = joined if isinstance(part, Level) and part.names is not None else part
        if term not in kept:
            kept.append(term)
    return kept


def _grouped(part: Tree) -> str:
    return f"({part})" if isinstance(part, (And, Or, Not)) else str(part)
