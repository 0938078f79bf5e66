"""What OpenSearch is asked: proposals and places as queries. No user text ever becomes syntax.

A proposal may only ask for too little: where an index cannot tell, `match_all` stands.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from loghaul_ingest.block import UNINDEXED
from loghaul_ingest.query.proposal import (
    Both,
    Either,
    Every,
    Nothing,
    Proposal,
    Times,
    Value,
    Word,
)
from loghaul_ingest.stores.opensearch.documents import clamped, field_term
from loghaul_ingest.words import LONGEST

Query = dict[str, Any]

EVERY: Query = {"match_all": {}}
NOTHING: Query = {"match_none": {}}
_UNINDEXED: Query = {"term": {"fields": UNINDEXED}}
_PLAIN = re.compile(rb"[a-z0-9_]+")


def every(parts: Iterable[Query]) -> Query:
    """Return the conjunction, as filters."""
    kept = [part for part in parts if part != EVERY]
    if NOTHING in kept:
        return NOTHING
    if not kept:
        return EVERY
    return kept[0] if len(kept) == 1 else {"bool": {"filter": kept}}


def either(parts: Iterable[Query]) -> Query:
    """Return the disjunction."""
    kept = [part for part in parts if part != NOTHING]
    if not kept:
        return NOTHING
    if EVERY in kept:
        return EVERY
    if len(kept) == 1:
        return kept[0]
    # More clauses than this are refused; they are nested then.
    while len(kept) > 500:
        kept = [either(kept[at : at + 500]) for at in range(0, len(kept), 500)]
    return {"bool": {"should": kept, "minimum_should_match": 1}}


def without(query: Query, excluded: Iterable[Query]) -> Query:
    """Return the query without what others match."""
    left = list(excluded)
    return {"bool": {"filter": [query], "must_not": left}} if left else query


def below(field: str, limit: int | None) -> Query:
    """Return field < limit."""
    return EVERY if limit is None else {"range": {field: {"lt": clamped(limit)}}}


def from_on(field: str, start: int | None) -> Query:
    """Return field >= start."""
    return EVERY if start is None else {"range": {field: {"gte": clamped(start)}}}


def proposed(proposal: Proposal) -> Query:
    """Return the query of a proposal, bound to its streams; it may only ask for too little."""
    match proposal:
        case Word():
            return _word(proposal)
        case Value(any_of):
            return {"terms": {"fields": sorted(map(field_term, {*any_of, UNINDEXED}))}}
        case Times(since, until):
            return every([from_on("time_max", since), below("time_min", until)])
        case Both(parts):
            return every(proposed(part) for part in parts)
        case Either(parts):
            return either([proposed(part) for part in parts])
        case Nothing():
            return NOTHING
        case Every():
            return EVERY
        case _:
            return EVERY


def _word(asked: Word) -> Query:
    word, prefix = asked.word, asked.prefix
    if not _PLAIN.fullmatch(word):
        return EVERY
    if len(word) > LONGEST:
        word, prefix = word[:LONGEST], True
    name = "words_high" if asked.high else "words"
    query: Query = {"prefix" if prefix else "term": {name: word.decode("ascii")}}
    return either([query, _UNINDEXED])
