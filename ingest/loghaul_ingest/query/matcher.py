"""The predicate as others use it: bound to one stream, asked about one block at a time."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

from loghaul_ingest.query import tree
from loghaul_ingest.query.predicate import Node, bind_tree, compile_tree
from loghaul_ingest.query.scan import KEY_WORDS, KEYS, Scan
from loghaul_ingest.query.seekers import FormSeeker, WordSeeker, wild

if TYPE_CHECKING:
    from loghaul_ingest.block import Facts
    from loghaul_ingest.lines import Span
    from loghaul_ingest.view import View


class Matcher:
    """Which events of a block of one stream a query means.

    every     all of them, whatever the lines say
    by_line   each line by its own bytes alone: many blocks may be looked at as if they were one
    """

    def __init__(self, node: tree.Tree) -> None:
        self.tree = node
        self.every = node == tree.Every()
        self._node: Node = compile_tree(node)
        self.by_line = isinstance(self._node, (WordSeeker, FormSeeker))
        self._hidden = tuple(_hidden_keys(node))

    def spans(self, view: View) -> list[Span]:
        """Return (start, end) in the view's buffer of the events that match, ascending."""
        if self.every:
            return view.spans()
        scan = Scan(view, self._hidden)
        starts = self._node.starts(scan)
        return [(start, scan.end(start)) for start in starts]

    def count(self, view: View) -> int:
        """Return how many events match: what `len(spans(view))` is, faster."""
        if self.every:
            return view.head.lines
        scan = Scan(view, self._hidden)
        if isinstance(self._node, WordSeeker):
            return self._node.count(scan)
        return len(self._node.starts(scan))


def matcher(node: tree.Tree, facts: Facts) -> Matcher | None:
    """Return the predicate of a tree for one stream; None: no line of it can match."""
    bound = bind_tree(node, facts)
    return None if bound is None else _matcher(bound)


@lru_cache(maxsize=256)
def _matcher(bound: tree.Tree) -> Matcher:
    # Thousands of streams leave the same tree behind; a matcher keeps nothing of a stream.
    return Matcher(bound)


def _hidden_keys(node: tree.Tree) -> Iterator[bytes]:
    """The keys of our records that a bare word of the query would find, and must not."""
    for term in _bare(node):
        if isinstance(term, tree.Phrase):
            touched = KEY_WORDS.intersection(term.words)
        else:
            form = wild(term.pattern)
            touched = frozenset(
                word for word in KEY_WORDS if form.starts(Scan.of_value(word.decode()))
            )
            if "." in term.pattern:
                touched = KEY_WORDS
        for key in KEYS:
            if any(word in touched for word in key.replace(b"@", b"").split(b".")):
                yield key


def _bare(node: tree.Tree) -> Iterator[tree.Phrase | tree.Wild]:
    if isinstance(node, (tree.Phrase, tree.Wild)):
        yield node
    elif isinstance(node, tree.Not):
        yield from _bare(node.part)
    elif isinstance(node, (tree.And, tree.Or)):
        for part in node.parts:
            yield from _bare(part)
