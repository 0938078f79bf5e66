"""The predicate: which events of a block a query means. It decides, everywhere.

`compile_tree` takes a tree as it is left for one stream (`bind_tree`) and gives a node with two
answers about a block: the starts of all its lines that match, and which of given lines do. A
conjunction begins with its rarest part; what needs a line taken apart is asked of what is left.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from loghaul.chunk import EVENTS
from loghaul_ingest import recognise
from loghaul_ingest.query import fields, seekers, tree
from loghaul_ingest.query.literals import literal
from loghaul_ingest.query.scan import Scan
from loghaul_ingest.query.seekers import Seeker
from loghaul_ingest.query.values import Equals, FactTest, as_number, as_text

if TYPE_CHECKING:
    from loghaul_ingest.block import Facts

#: Up to so many lines are asked for their level one by one.
_FEW = 8
#: What JSON may write in another way than it stands.
_REWRITTEN = frozenset("\"\\<>&'/")


class Node(Protocol):
    """A part of a query, compiled for one stream."""

    def starts(self, scan: Scan) -> list[int]:
        """Return where the lines that match start, ascending."""
        ...

    def keep(self, scan: Scan, starts: list[int]) -> list[int]:
        """Return those of `starts` whose line matches."""
        ...

    def estimate(self, scan: Scan) -> int:
        """Return about how many lines match; 0 is certain."""
        ...


def bind_tree(node: tree.Tree, facts: Facts) -> tree.Tree | None:
    """Return what a tree asks of the lines of one stream; None: no line of it can match."""
    if isinstance(node, tree.Field) and fields.of_stream(node.field):
        return tree.Every() if FactTest(node.field, node.test)(facts) else None
    if isinstance(node, tree.Not):
        inner = bind_tree(node.part, facts)
        if inner is None:
            return tree.Every()
        return None if inner == tree.Every() else tree.Not(inner)
    if isinstance(node, tree.And):
        parts = [bind_tree(part, facts) for part in node.parts]
        left = [part for part in parts if part is not None]
        return tree.all_of(left) if len(left) == len(parts) else None
    if isinstance(node, tree.Or):
        left = [part for part in (bind_tree(p, facts) for p in node.parts) if part is not None]
        if tree.Every() in left:
            return tree.Every()
        return tree.any_of(left) if left else None
    return node


def compile_tree(node: tree.Tree) -> Node:
    """Return the compiled form of a tree that `bind_tree` gave."""
    if isinstance(node, (tree.Phrase, tree.Wild, tree.Text, tree.Regex)):
        return seeker(node)
    if isinstance(node, tree.And):
        return _All([compile_tree(part) for part in node.parts])
    if isinstance(node, tree.Or):
        return _Any([compile_tree(part) for part in node.parts])
    if isinstance(node, tree.Not):
        return _Without(compile_tree(node.part))
    if isinstance(node, tree.Level):
        return _OfLevel(node.names)
    if isinstance(node, tree.Time):
        return _InTime(node.since, node.until)
    if isinstance(node, tree.Within):
        return _within(node)
    if isinstance(node, tree.Field):
        return _Taken(field_words(node), node.field, node.test)
    return _All([])


def seeker(node: tree.Phrase | tree.Wild | tree.Text | tree.Regex) -> Seeker:
    """Return what finds the lines of a term."""
    if isinstance(node, tree.Phrase):
        return seekers.phrase(node.words)
    if isinstance(node, tree.Wild):
        return seekers.wild(node.pattern)
    if isinstance(node, tree.Text):
        return seekers.characters(node.text)
    return seekers.expression(node.pattern, node.ignore_case)


def field_words(node: tree.Field) -> tree.Phrase | None:
    """Return words that a line must hold to have this value: part of what the query means.

    None where the value may stand there in other characters: numbers, escapes of JSON.
    """
    if node.field.startswith("extra."):
        key = literal(node.field[len("extra.") :])
        return key if isinstance(key, tree.Phrase) and len(key.words) == 1 else None
    if not isinstance(node.test, Equals) or as_number(node.test.text) is not None:
        return None
    text = node.test.text
    if node.test.path or not text.isprintable() or _REWRITTEN & {*text}:
        return None
    found = literal(text)
    return found if isinstance(found, tree.Phrase) else None


class _All:
    """Every part; none: every line."""

    def __init__(self, parts: list[Node]) -> None:
        self._parts = parts

    def starts(self, scan: Scan) -> list[int]:
        if not self._parts:
            return scan.starts
        ranked = sorted(((part.estimate(scan), i) for i, part in enumerate(self._parts)))
        if ranked[0][0] == 0:
            return []
        found = self._parts[ranked[0][1]].starts(scan)
        return self._kept(scan, found, [self._parts[i] for _, i in ranked[1:]])

    def keep(self, scan: Scan, starts: list[int]) -> list[int]:
        return self._kept(scan, starts, self._parts)

    def estimate(self, scan: Scan) -> int:
        return min((part.estimate(scan) for part in self._parts), default=scan.stop)

    @staticmethod
    def _kept(scan: Scan, starts: list[int], parts: list[Node]) -> list[int]:
        for part in parts:
            if not starts:
                break
            starts = part.keep(scan, starts)
        return starts


class _Any:
    """At least one part."""

    def __init__(self, parts: list[Node]) -> None:
        self._parts = parts

    def starts(self, scan: Scan) -> list[int]:
        return sorted({start for part in self._parts for start in part.starts(scan)})

    def keep(self, scan: Scan, starts: list[int]) -> list[int]:
        kept = {start for part in self._parts for start in part.keep(scan, starts)}
        return [start for start in starts if start in kept]

    def estimate(self, scan: Scan) -> int:
        return sum(part.estimate(scan) for part in self._parts)


class _Without:
    """Not this part."""

    def __init__(self, part: Node) -> None:
        self._part = part

    def starts(self, scan: Scan) -> list[int]:
        return self.keep(scan, scan.starts)

    def keep(self, scan: Scan, starts: list[int]) -> list[int]:
        if self._part.estimate(scan) == 0:
            return starts
        kept = set(self._part.keep(scan, starts))
        return [start for start in starts if start not in kept]

    def estimate(self, scan: Scan) -> int:
        return scan.stop


class _OfLevel:
    """The line's own level."""

    def __init__(self, names: frozenset[str] | None) -> None:
        self._names = names

    def starts(self, scan: Scan) -> list[int]:
        if self.estimate(scan) == 0:
            return []
        names, lines = self._names, scan.view.level_lines()
        return [start for start, _, level in lines if names is None or level in names]

    def keep(self, scan: Scan, starts: list[int]) -> list[int]:
        if self.estimate(scan) == 0:
            return []
        if len(starts) > _FEW or scan.kind == EVENTS:
            found = set(self.starts(scan))
            return [start for start in starts if start in found]
        return [start for start in starts if self._has(scan, start)]

    def _has(self, scan: Scan, start: int) -> bool:
        line = scan.view.buffer[start : scan.end(start)]
        found = recognise.level_lines(line, scan.kind)
        return bool(found) and (self._names is None or found[0][2] in self._names)

    def estimate(self, scan: Scan) -> int:
        levels = scan.view.head.levels
        if self._names is None:
            return sum(levels.values())
        return sum(count for level, count in levels.items() if level in self._names)


class _InTime:
    """The line's time is in [since, until)."""

    def __init__(self, since: int | None, until: int | None) -> None:
        self._since, self._until = since, until

    def starts(self, scan: Scan) -> list[int]:
        return self.keep(scan, scan.starts)

    def keep(self, scan: Scan, starts: list[int]) -> list[int]:
        head = scan.view.head
        if self._has(head.time_min) and self._has(head.time_max):
            return starts
        if self.estimate(scan) == 0:
            return []
        view = scan.view
        return [s for s in starts if self._has(view.time_of((s, scan.end(s))))]

    def _has(self, time: int) -> bool:
        return (self._since is None or time >= self._since) and (
            self._until is None or time < self._until
        )

    def estimate(self, scan: Scan) -> int:
        head = scan.view.head
        before = self._until is not None and head.time_min >= self._until
        behind = self._since is not None and head.time_max < self._since
        return 0 if before or behind else scan.stop


class _Taken:
    """A test on a value that the line itself carries."""

    def __init__(
        self,
        wanted: tree.Phrase | tree.Wild | tree.Text | None,
        field: str,
        test: Callable[[Any], bool],
    ) -> None:
        self._seeker = None if wanted is None else seeker(wanted)
        self._field, self._test = field, test

    def starts(self, scan: Scan) -> list[int]:
        found = scan.starts if self._seeker is None else self._seeker.starts(scan)
        return self._tested(scan, found)

    def keep(self, scan: Scan, starts: list[int]) -> list[int]:
        if self._seeker is not None:
            starts = self._seeker.keep(scan, starts)
        return self._tested(scan, starts)

    def _tested(self, scan: Scan, starts: list[int]) -> list[int]:
        return [start for start in starts if self._test(self._value(scan, start))]

    def _value(self, scan: Scan, start: int) -> Any:
        span = (start, scan.end(start))
        value = fields.line_value(self._field, scan.view.fields(span))
        if value is None and self._field == "message" and scan.kind == "text":
            # A line that nothing was recognised in is its own message.
            return scan.view.text(span).decode("utf-8", "surrogateescape")
        return value

    def estimate(self, scan: Scan) -> int:
        return scan.stop if self._seeker is None else self._seeker.estimate(scan)


def _within(node: tree.Within) -> Node:
    """Words inside one field: the line has them, and the value too."""
    inner = seeker(node.node)
    return _Taken(node.node, node.field, lambda value: value is not None and _has(inner, value))


def _has(inner: Seeker, value: Any) -> bool:
    return bool(inner.starts(Scan.of_value(as_text(value))))
