"""What a query tells a store to look for: a small algebra that may only err on the side of more.

`holds(proposal, block)` is its meaning, in plain Python; a store may use it, or answer from its
index. There is no negation: what an index cannot exclude safely is `EVERY`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from loghaul_ingest.block import UNINDEXED, Block, Facts


@dataclass(frozen=True, slots=True)
class Every:
    """Every block."""


@dataclass(frozen=True, slots=True)
class Nothing:
    """No block."""


@dataclass(frozen=True, slots=True)
class Word:
    """A block that has this word (as `words.words` writes it, at most `words.LONGEST` bytes).

    prefix   any word that begins so
    high     in its events at warning and above
    """

    word: bytes
    prefix: bool = False
    high: bool = False


@dataclass(frozen=True, slots=True)
class Value:
    """A block whose `fields` have one of these "key=value"."""

    any_of: frozenset[str]


@dataclass(frozen=True, slots=True)
class Times:
    """A block that may have an event in [since, until), microseconds; None is open."""

    since: int | None
    until: int | None


@dataclass(frozen=True, slots=True)
class OfStream:
    """A block of a stream whose fact `field` (ECS name) satisfies a pattern.

    A fact is the same for all blocks of a stream: `bind` resolves it once per stream, with the
    test that the predicate uses. A store that wants to can select streams by `equals` at once.
    """

    field: str
    test: StreamTest
    equals: str | None = None


@dataclass(frozen=True, slots=True)
class Both:
    """All of the parts."""

    parts: tuple[Proposal, ...]


@dataclass(frozen=True, slots=True)
class Either:
    """At least one of the parts."""

    parts: tuple[Proposal, ...]


class StreamTest:
    """Base of the tests on a fact of a stream; hashable. `query` provides them."""

    def __call__(self, facts: Facts) -> bool:
        """Return whether the facts satisfy the test."""
        raise NotImplementedError


Proposal: TypeAlias = Every | Nothing | Word | Value | Times | OfStream | Both | Either

EVERY = Every()
NOTHING = Nothing()


def both(*parts: Proposal) -> Proposal:
    """Return the conjunction, simplified."""
    flat: list[Proposal] = []
    for part in parts:
        if isinstance(part, Nothing):
            return NOTHING
        if isinstance(part, Both):
            flat.extend(part.parts)
        elif not isinstance(part, Every) and part not in flat:
            flat.append(part)
    if not flat:
        return EVERY
    return flat[0] if len(flat) == 1 else Both(tuple(flat))


def either(*parts: Proposal) -> Proposal:
    """Return the disjunction, simplified."""
    flat: list[Proposal] = []
    for part in parts:
        if isinstance(part, Every):
            return EVERY
        if isinstance(part, Either):
            flat.extend(part.parts)
        elif not isinstance(part, Nothing) and part not in flat:
            flat.append(part)
    if not flat:
        return NOTHING
    return flat[0] if len(flat) == 1 else Either(tuple(flat))


def bind(proposal: Proposal, facts: Facts) -> Proposal:
    """Return what is left of a proposal for the blocks of one stream."""
    if isinstance(proposal, OfStream):
        return EVERY if proposal.test(facts) else NOTHING
    if isinstance(proposal, Both):
        return both(*(bind(part, facts) for part in proposal.parts))
    if isinstance(proposal, Either):
        return either(*(bind(part, facts) for part in proposal.parts))
    return proposal


def holds(proposal: Proposal, block: Block, facts: Facts) -> bool:
    """Return whether a proposal holds for a block: the meaning of the algebra."""
    if isinstance(proposal, Both):
        return all(holds(part, block, facts) for part in proposal.parts)
    if isinstance(proposal, Either):
        return any(holds(part, block, facts) for part in proposal.parts)
    if isinstance(proposal, (Word, Value)) and UNINDEXED in block.fields:
        return True
    if isinstance(proposal, Word):
        words = (block.words_high if proposal.high else block.words).split()
        if proposal.prefix:
            return any(word.startswith(proposal.word) for word in words)
        return proposal.word in words
    if isinstance(proposal, Value):
        return not proposal.any_of.isdisjoint(block.fields)
    if isinstance(proposal, Times):
        return (proposal.until is None or block.head.time_min < proposal.until) and (
            proposal.since is None or block.head.time_max >= proposal.since
        )
    if isinstance(proposal, OfStream):
        return proposal.test(facts)
    return isinstance(proposal, Every)
