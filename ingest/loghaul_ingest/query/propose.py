"""What a query lets a store look for: always more than it means, never less.

A word that every matching line must hold is proposed; of what an index cannot exclude safely
(negation, characters that are no words, most values of a line) nothing is.
"""

from __future__ import annotations

import re

from loghaul_ingest import levels, tokens
from loghaul_ingest.query import fields, tree
from loghaul_ingest.query.literals import to_bytes
from loghaul_ingest.query.predicate import field_words
from loghaul_ingest.query.proposal import (
    EVERY,
    NOTHING,
    Both,
    Either,
    OfStream,
    Proposal,
    Times,
    Value,
    Word,
    both,
    either,
)
from loghaul_ingest.query.regex import required_words
from loghaul_ingest.query.values import Equals, FactTest
from loghaul_ingest.words import LONGEST, words


def propose(node: tree.Tree) -> Proposal:
    """Return the proposal of a tree: it holds for every block in which the tree could match."""
    if isinstance(node, tree.And):
        return _of_all(node.parts)
    if isinstance(node, tree.Or):
        return either(*(propose(part) for part in node.parts))
    if isinstance(node, tree.Not):
        return _of_negation(node.part)
    if isinstance(node, tree.Level):
        return EVERY if node.names is None else _of_levels(node.names)
    if isinstance(node, tree.Time):
        return Times(node.since, node.until)
    if isinstance(node, tree.Within):
        return _of_text(node.node)
    if isinstance(node, tree.Field):
        return _of_field(node)
    return EVERY if isinstance(node, tree.Every) else _of_text(node)


def _of_all(parts: tuple[tree.Tree, ...]) -> Proposal:
    found = both(*(propose(part) for part in parts))
    return _high(found) if any(_is_high(part) for part in parts) else found


def _is_high(part: tree.Tree) -> bool:
    """Whether a line that matches is at warning or above, so that its words are in that index."""
    if not isinstance(part, tree.Level) or not part.names:
        return False
    return all(levels.severity(name) >= levels.HIGH for name in part.names)


def _high(proposal: Proposal) -> Proposal:
    if isinstance(proposal, Word):
        return Word(proposal.word, proposal.prefix, high=True)
    if isinstance(proposal, Both):
        return Both(tuple(_high(part) for part in proposal.parts))
    if isinstance(proposal, Either):
        return Either(tuple(_high(part) for part in proposal.parts))
    return proposal


def _of_negation(part: tree.Tree) -> Proposal:
    if isinstance(part, tree.Field) and _resolved(part.field):
        return OfStream(part.field, FactTest(part.field, part.test, inverted=True))
    return EVERY


def _of_levels(names: frozenset[str]) -> Proposal:
    asked = [tokens.asked(fields.LEVEL, name) for name in sorted(names)]
    return Value(frozenset().union(*(found for found in asked if found is not None)))


def _of_field(node: tree.Field) -> Proposal:
    if fields.of_stream(node.field):
        if not _resolved(node.field):
            return EVERY
        exact = isinstance(node.test, Equals) and node.field == "run.id"
        equals = node.test.text if exact and isinstance(node.test, Equals) else None
        return OfStream(node.field, FactTest(node.field, node.test), equals)
    wanted = field_words(node)
    found = EVERY if wanted is None else _of_text(wanted)
    if isinstance(node.test, Equals) and not node.test.path:
        asked = tokens.asked(node.field, node.test.text)
        found = found if asked is None else both(found, Value(asked))
    return found


def _resolved(field: str) -> bool:
    """Whether a store knows the fact as the predicate will: attempts may be computed later."""
    return fields.of_stream(field) and field != "run.attempt"


def _of_text(node: tree.Phrase | tree.Wild | tree.Text | tree.Regex) -> Proposal:
    if isinstance(node, tree.Phrase):
        return both(*(_word(word) for word in node.words))
    if isinstance(node, tree.Wild):
        return _of_wild(node.pattern)
    if isinstance(node, tree.Text):
        return NOTHING if "\n" in node.text else both(*map(_word, inner_words(node.text)))
    return both(*map(_word, required_words(node.pattern, node.ignore_case)))


def _of_wild(pattern: str) -> Proposal:
    found = []
    for part in pattern.split("."):
        fixed, star, _ = part.partition("*")
        if fixed:
            found.append(_prefix(fixed.encode()) if star else _word(fixed.encode()))
    return both(*found)


def inner_words(text: str) -> list[bytes]:
    """Return the words of characters that stand whole between two others that are no words."""
    found = words(to_bytes(text), "text")
    return re.findall(rb"(?<=[ \n])[a-z0-9_]+(?=[ \n])", found)


def _word(word: bytes) -> Proposal:
    return Word(word[:LONGEST], prefix=True) if len(word) > LONGEST else Word(word)


def _prefix(word: bytes) -> Proposal:
    return Word(word[:LONGEST], prefix=True)
