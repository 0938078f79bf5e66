"""What stands behind `name:` in a query, as terms: equality, wildcards, comparisons, ranges."""

from __future__ import annotations

import re
from fnmatch import translate

from loghaul_ingest import levels
from loghaul_ingest.query import fields, times, tree
from loghaul_ingest.query.literals import literal, unquoted, word_term
from loghaul_ingest.query.values import Equals, Exists, Glob, Range, ValueTest, holds

_BOUND = r'("(?:[^"\\]|\\.)*"|[^\s"\[\]{}()]+)'
_BETWEEN = re.compile(rf"([\[{{])\s*{_BOUND}\s+TO\s+{_BOUND}\s*([\]}}])(?=[\s)]|$)", re.DOTALL)
_COMPARED = re.compile(r"(>=|<=|>|<)")
_TERM = re.compile(r"\S+")
_PATHS = frozenset({"log.file.path", "log.origin.file.name"})
_TEXTS = frozenset({"message", "error.message", "error.stack_trace"})


class Refused(Exception):
    """A value that the field cannot have; the message says so."""


class FieldTerms:
    """Makes terms of fields; `now_us` is what relative times start from."""

    def __init__(self, now_us: int) -> None:
        self._now_us = now_us

    def quoted(self, field: str, text: str) -> tree.Tree:
        """Return the term of a value in quotation marks: no wildcards, no comparison."""
        if field in _TEXTS:
            node = literal(text)
            if node is None:
                raise Refused(f"{field} of nothing")
            return tree.Within(field, node)
        if field == fields.LEVEL:
            return tree.Level(frozenset({levels.canonical(text)}))
        if field in ("since", "until", fields.TIME):
            return self._time(field, "", text)
        return tree.Field(field, Equals(text, field in _PATHS))

    def between(self, field: str, text: str, place: int, end: int) -> tuple[tree.Tree, int] | None:
        """Return the term of `[a TO b]`, and where it ends; None if there is none here."""
        found = _BETWEEN.match(text, place, end)
        if found is None:
            return None
        low, high = (_bound(found[2]), _bound(found[3]))
        with_low, with_high = found[1] == "[", found[4] == "]"
        parts: list[tree.Tree] = []
        if low is None and high is None:
            return self._exists(field), found.end()
        if field in (fields.LEVEL, fields.TIME):
            if low is not None:
                parts.append(self._compared(field, ">=" if with_low else ">", low))
            if high is not None:
                parts.append(self._compared(field, "<=" if with_high else "<", high))
            return _narrowed(parts), found.end()
        test = Range(low, high, with_low or low is None, with_high or high is None)
        return self._tested(field, test), found.end()

    def written(
        self, field: str, text: str, place: int, end: int, quotes: dict[int, int]
    ) -> tuple[tree.Tree, int]:
        """Return the term of a value as it stands, and where it ends."""
        operator = _COMPARED.match(text, place, end)
        if operator:
            behind = quotes.get(operator.end(), end + 1)
            if behind <= end:
                bound = unquoted(text[operator.end() : behind])
                return self._compared(field, operator[1], bound), behind
        term = _TERM.match(text, place, end)
        if term is None:
            raise Refused(f"{field}: without a value")
        value = term[0]
        if operator and len(value) > len(operator[1]):
            return self._compared(field, operator[1], value[len(operator[1]) :]), term.end()
        if value.strip("*") == "":
            return self._exists(field), term.end()
        if "*" in value and field not in ("since", "until", fields.TIME):
            return self._wild(field, value), term.end()
        return self.quoted(field, value), term.end()

    def _exists(self, field: str) -> tree.Tree:
        if field in ("since", "until", fields.TIME):
            return tree.Every()
        return tree.Level(None) if field == fields.LEVEL else tree.Field(field, Exists())

    def _wild(self, field: str, value: str) -> tree.Tree:
        if field == fields.LEVEL:
            form = re.compile(translate(value.lower().replace("?", "[?]")))
            names = frozenset(name for name in levels.SEVERITY if form.match(name))
            if not names:
                raise Refused(f"no known level looks like {value}")
            return tree.Level(names)
        if field in _TEXTS:
            node = word_term(value)
            if isinstance(node, (tree.Phrase, tree.Wild, tree.Text)):
                return tree.Within(field, node)
            return tree.Field(field, Exists())
        if '"' in value or not _balanced(value):
            raise Refused(f"{value} has a bracket or a quotation mark without its partner")
        return tree.Field(field, Glob(value, field in _PATHS))

    def _compared(self, field: str, operator: str, value: str) -> tree.Tree:
        if field == fields.LEVEL:
            return _levels(operator, value)
        if field in ("since", "until", fields.TIME):
            return self._time(field, operator, value)
        low, high = (value, None) if operator[0] == ">" else (None, value)
        return self._tested(field, Range(low, high, operator != ">", operator != "<"))

    def _tested(self, field: str, test: ValueTest) -> tree.Tree:
        if field in ("since", "until"):
            raise Refused(f"{field} takes one time")
        return tree.Field(field, test)

    def _time(self, field: str, operator: str, text: str) -> tree.Tree:
        moment = times.moment(text, self._now_us)
        if moment is None:
            raise Refused(f"{text} is no time")
        if field == "since":
            return tree.Time(moment, None)
        if field == "until":
            return tree.Time(None, moment)
        behind = moment + times.precision(text)
        return {
            ">=": tree.Time(moment, None),
            ">": tree.Time(behind, None),
            "<": tree.Time(None, moment),
            "<=": tree.Time(None, behind),
        }.get(operator, tree.Time(moment, behind))


def _levels(operator: str, value: str) -> tree.Level:
    severity = levels.SEVERITY.get(levels.canonical(value))
    if severity is None:
        raise Refused(f"{value} has no place in the order of levels")
    names = [name for name, at in levels.SEVERITY.items() if holds(operator, at, severity)]
    if not names:
        raise Refused(f"there is no level {operator}{value}")
    return tree.Level(frozenset(names))


def _bound(text: str) -> str | None:
    if text == "*":
        return None
    return unquoted(text) if text[0] == '"' else text


def _balanced(text: str) -> bool:
    depth = 0
    for character in text:
        depth += (character == "(") - (character == ")")
        if depth < 0:
            return False
    return depth == 0


def _narrowed(parts: list[tree.Tree]) -> tree.Tree:
    """Two bounds of a level or a time as one term."""
    first, last = parts[0], parts[-1]
    if isinstance(first, tree.Level) and isinstance(last, tree.Level) and first.names:
        names = first.names & (last.names or frozenset())
        if not names:
            raise Refused("there is no level between these")
        return tree.Level(names)
    if isinstance(first, tree.Time) and isinstance(last, tree.Time) and len(parts) == 2:
        return tree.Time(first.since, last.until)
    return first
