"""What is indexed of a block, and how a proposal asks for it.

One FTS5 table answers three questions, told apart by a first character that no word has:

    word      the block has it
    !word     its events at warning and above have it
    =hash     one of its fields is this "key=value" (a hash: values are any text)

User text never becomes FTS5 syntax: a term is made of `[a-z0-9_]` and one of these, in quotes.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from typing import NamedTuple

from loghaul_ingest.block import UNINDEXED, Block
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
from loghaul_ingest.words import LONGEST

_PLAIN = re.compile(rb"[a-z0-9_]+")


def terms(block: Block) -> str:
    """Return what is indexed of a block."""
    parts = [block.words.decode("ascii")]
    if block.words_high:
        parts += ["!" + word for word in set(block.words_high.decode("ascii").split())]
    parts += map(field_term, block.fields)
    return " ".join(parts)


@lru_cache(maxsize=4096)
def field_term(field: str) -> str:
    """Return the term of a "key=value"; equal terms of unequal fields only propose too much."""
    raw = field.encode("utf-8", "surrogatepass")
    return "=" + hashlib.blake2b(raw, digest_size=6).hexdigest()


class Conditions(NamedTuple):
    """A proposal as SQLite is asked: an FTS5 expression, and SQL over a row of blocks.

    Both must hold; None: no condition.
    """

    match: str | None
    where: str | None
    parameters: tuple[int | str, ...]


_ANY = Conditions(None, None, ())


def conditions(proposal: Proposal) -> Conditions:
    """Return what a proposal, bound to its streams, asks of a block; may only ask too little."""
    asked = _conditions(proposal)
    return asked._replace(match=_or_unindexed(asked.match)) if asked.match else asked


def _or_unindexed(match: str) -> str:
    """Return an expression that blocks satisfy as well whose words no store would take."""
    return f'({match} OR "{field_term(UNINDEXED)}")'


def _conditions(proposal: Proposal) -> Conditions:
    match proposal:
        case Word():
            return _word(proposal)
        case Value(any_of):
            terms = " OR ".join(f'"{field_term(field)}"' for field in sorted({*any_of, UNINDEXED}))
            return Conditions(f"({terms})", None, ())
        case Times(since, until):
            return _times(since, until)
        case Both(parts):
            return _both([_conditions(part) for part in parts])
        case Either(parts):
            return _either([_conditions(part) for part in parts])
        case Nothing():
            return _NONE
        case Every():
            return _ANY
        case _:
            return _ANY


_NONE = Conditions(None, "0", ())


def _word(asked: Word) -> Conditions:
    word, prefix = asked.word, asked.prefix
    if word and not _PLAIN.fullmatch(word):
        return _ANY
    if len(word) > LONGEST:
        word, prefix = word[:LONGEST], True
    if not word and (not prefix or not asked.high):
        return _ANY
    term = ("!" if asked.high else "") + word.decode("ascii")
    return Conditions(f'"{term}"' + ("*" if prefix else ""), None, ())


def _times(since: int | None, until: int | None) -> Conditions:
    where, parameters = [], []
    if since is not None:
        where.append("time_max >= ?")
        parameters.append(since)
    if until is not None:
        where.append("time_min < ?")
        parameters.append(until)
    return Conditions(None, " AND ".join(where) or None, tuple(map(_clamped, parameters)))


def _clamped(number: int) -> int:
    """A time beyond SQLite's integers is as good as the last of them."""
    return max(-(1 << 63), min((1 << 63) - 1, number))


def _both(parts: list[Conditions]) -> Conditions:
    matches = [part.match for part in parts if part.match]
    wheres = [f"({part.where})" for part in parts if part.where]
    return Conditions(
        f"({' AND '.join(matches)})" if matches else None,
        " AND ".join(wheres) or None,
        tuple(value for part in parts for value in part.parameters),
    )


def _either(parts: list[Conditions]) -> Conditions:
    parts = [part for part in parts if part.where != "0"]
    if not parts:
        return _NONE
    if any(part == _ANY for part in parts):
        return _ANY
    if all(part.match and not part.where for part in parts):
        return Conditions(f"({' OR '.join(str(part.match) for part in parts)})", None, ())
    rendered = [_rendered(part) for part in parts]
    return Conditions(
        None,
        " OR ".join(f"({part.where})" for part in rendered),
        tuple(value for part in rendered for value in part.parameters),
    )


def _rendered(part: Conditions) -> Conditions:
    """Return conditions as SQL alone: words and times mixed in an "or"."""
    if not part.match:
        return part
    inside = "blocks.id IN (SELECT rowid FROM words WHERE words MATCH ?)"
    where = f"{inside} AND ({part.where})" if part.where else inside
    return Conditions(None, where, (_or_unindexed(part.match), *part.parameters))
