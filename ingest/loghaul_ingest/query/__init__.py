"""The query language: `parse` makes a `Query` of any text, and never fails.

One tree, and from it what a store can look for (`proposal`), the predicate over a block's bytes,
which decides (`bind`), and the places to highlight.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from loghaul_ingest.query.tree import Tree

if TYPE_CHECKING:
    from loghaul_ingest.block import Facts
    from loghaul_ingest.query.matcher import Matcher
    from loghaul_ingest.query.proposal import Proposal

__all__ = ["Query", "parse"]


@dataclass(frozen=True)
class Query:
    """A query: what was written, what it means, and what the person should know about that.

    hints   one sentence each: what was not understood and is searched as text
    """

    text: str
    tree: Tree
    hints: tuple[str, ...] = ()

    def proposal(self) -> Proposal:
        """Return what a store can look for: it holds for every block that could match."""
        return self._proposal

    def bind(self, facts: Facts) -> Matcher | None:
        """Return the predicate for one stream; None: no line of it can match."""
        from loghaul_ingest.query.matcher import matcher

        return matcher(self.tree, facts)

    def highlights(self, text: str) -> list[tuple[int, int]]:
        """Return (start, end) of the hits in a shown text, ascending, in characters."""
        from loghaul_ingest.query.highlight import highlights

        return highlights(self.tree, text)

    @cached_property
    def _proposal(self) -> Proposal:
        from loghaul_ingest.query.propose import propose

        return propose(self.tree)


def parse(text: str, now_us: int | None = None, backtracking: bool = False) -> Query:
    """Return the query that a text is. Never fails; see `Query.hints`.

    now_us          what `10m` and `now` start from, microseconds; None: the present
    backtracking    allow Python's `re` where google-re2 is missing: for data of one's own only
    """
    from loghaul_ingest.query.parser import parse_tree

    now_us = time.time_ns() // 1000 if now_us is None else now_us
    found = parse_tree(text, now_us, backtracking)
    return Query(text, found.tree, found.hints)
