"""Blocks of one run that a proposal could hold in, newest first, a page at a time."""

from __future__ import annotations

import heapq
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from loghaul_ingest.block import Facts, Head
from loghaul_ingest.query.proposal import NOTHING, Proposal, bind
from loghaul_ingest.stores.sqlite.rows import HEAD, head_of, stream_facts
from loghaul_ingest.stores.sqlite.terms import Conditions, conditions

FIRST_PAGE, LARGEST_PAGE = 32, 4096

#: Beyond so many streams a list of them costs more than looking at each row.
_MOST_NAMED = 500

Lend = Callable[[], AbstractContextManager[sqlite3.Connection | None]]


def search_run(run: str, lend: Lend, proposal: Proposal, before: int | None) -> Iterator[Head]:
    """Yield heads by greatest time, newest first. Holds no connection between two of them."""
    with lend() as connection:
        facts = stream_facts(connection, run) if connection else {}
    groups: dict[Proposal, set[int]] = {}
    for number, one in facts.items():
        rest = bind(proposal, one)
        if rest != NOTHING:
            groups.setdefault(rest, set()).add(number)
    walks = [
        _Walk(lend, facts, numbers, conditions(rest), before).heads()
        for rest, numbers in groups.items()
    ]
    yield from heapq.merge(*walks, key=lambda head: -head.time_max)


class _Walk:
    """The blocks of some streams of a run that satisfy the same conditions."""

    def __init__(
        self,
        lend: Lend,
        facts: dict[int, Facts],
        numbers: set[int],
        asked: Conditions,
        before: int | None,
    ) -> None:
        self._lend = lend
        self._facts = facts
        self._numbers = numbers
        self._match = asked.match
        where = [asked.where] if asked.where else []
        self._parameters: list[Any] = list(asked.parameters)
        if before is not None:
            where.append("time_min < ?")
            self._parameters.append(before)
        if len(numbers) < len(facts) and len(numbers) <= _MOST_NAMED:
            where.append(f"stream IN ({','.join(map(str, sorted(numbers)))})")
        self._where = " AND ".join(f"({one})" for one in where) or "1"
        self._waiting: list[tuple[int, int, Head]] = []
        self._given: set[int] = set()
        self._highest: int | None = None
        self._generation: int | None = None

    def heads(self) -> Iterator[Head]:
        """Yield the heads, newest first."""
        pages = self._by_word() if self._match else self._by_time()
        for bound in pages:
            # What has not been read yet is not newer than `bound`.
            while self._waiting and (bound is None or -self._waiting[0][0] >= bound):
                yield heapq.heappop(self._waiting)[2]

    def _by_time(self) -> Iterator[int | None]:
        """Read pages along the index on time; yield the greatest time still unread."""
        last_time, last_id, size = (1 << 63) - 1, (1 << 63) - 1, FIRST_PAGE
        while True:
            with self._lend() as connection:
                rows = self._page(
                    connection,
                    f"SELECT id, stream, {HEAD} FROM blocks WHERE {self._where} AND "
                    "(time_max, id) < (?, ?) ORDER BY time_max DESC, id DESC LIMIT ?",
                    [*self._parameters, last_time, last_id, size],
                )
            if len(rows) < size:
                yield None
                return
            last_id, last_time = rows[-1][0], rows[-1][6]
            yield last_time
            size = min(size * 2, LARGEST_PAGE)

    def _by_word(self) -> Iterator[int | None]:
        """Read pages along the index of words, from the last written block down.

        Written later is mostly newer; how much newer an unread one could be is asked each time.
        """
        below, size = 1 << 62, FIRST_PAGE
        while True:
            with self._lend() as connection:
                rows = self._page(
                    connection,
                    f"SELECT id, stream, {HEAD} FROM words CROSS JOIN blocks ON id = words.rowid "
                    f"WHERE words MATCH ? AND words.rowid < ? AND {self._where} "
                    "ORDER BY words.rowid DESC LIMIT ?",
                    [self._match, below, *self._parameters, size],
                )
                if len(rows) < size or connection is None:
                    bound = None
                else:
                    below = rows[-1][0]
                    bound = _newest_below(connection, below)
            yield bound
            if bound is None:
                return
            size = min(size * 2, LARGEST_PAGE)

    def _page(
        self, connection: sqlite3.Connection | None, statement: str, parameters: list[Any]
    ) -> list[Any]:
        if connection is None:
            return []
        connection.execute("BEGIN")
        try:
            rows = connection.execute(statement, parameters).fetchall()
            moved = self._moved(connection)
        finally:
            connection.execute("COMMIT")
        for row in [*rows, *moved]:
            if row[0] not in self._given and row[1] in self._numbers:
                self._given.add(row[0])
                facts = self._facts[row[1]]
                head = head_of(facts.stream, facts.kind, row[2:])
                heapq.heappush(self._waiting, (-head.time_max, -row[0], head))
        return rows

    def _moved(self, connection: sqlite3.Connection) -> list[Any]:
        """Return blocks that were merged since the walk began: they lie where it has been."""
        state = dict(connection.execute("SELECT name, value FROM meta"))
        generation, last_id = state["generation"], state["last_id"]
        before, highest = self._generation, self._highest
        self._generation, self._highest = generation, last_id
        if before is None or before == generation:
            # New blocks of a log that goes on are none of this walk's.
            self._highest = last_id if highest is None else highest
            return []
        match = "id IN (SELECT rowid FROM words WHERE words MATCH ?) AND " if self._match else ""
        return connection.execute(
            f"SELECT id, stream, {HEAD} FROM blocks WHERE id > ? AND {match}{self._where}",
            [highest, *([self._match] if self._match else []), *self._parameters],
        ).fetchall()


def _newest_below(connection: sqlite3.Connection, block_id: int) -> int | None:
    """Return the greatest time of the blocks with a smaller id, None when there is none."""
    row = connection.execute(
        "SELECT time_max FROM blocks WHERE id < ? ORDER BY time_max DESC LIMIT 1", (block_id,)
    ).fetchone()
    return row[0] if row else None
