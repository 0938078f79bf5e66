"""Reading rows as what they mean: streams with their totals, heads of blocks."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, NamedTuple

from loghaul.chunk import StreamKey
from loghaul_ingest.block import Facts, Head
from loghaul_ingest.stores import totals
from loghaul_ingest.stores.base import StreamRow
from loghaul_ingest.stores.sqlite.codec import (
    pack_facts,
    pack_name,
    unpack_facts,
    unpack_levels,
    unpack_name,
)

#: Columns of a head, in the order that `head_of` takes them.
HEAD = (
    "blocks.offset, blocks.length, blocks.head, blocks.time_min, blocks.time_max, blocks.lines, "
    "blocks.progress, blocks.levels, blocks.position"
)

#: Heads read at once.
HEADS_PAGE = 512

_STREAM = "id, writer, name, kind, started, facts"
_TOTALS = "stored_end, ragged, lines, progress, levels, time_min, time_max"


def head_of(stream: StreamKey, kind: str, columns: Sequence[Any]) -> Head:
    """Return the head of which the columns `HEAD` were read."""
    offset, length, head, time_min, time_max, lines, progress, levels, position = columns
    counts = unpack_levels(levels) if levels else {}
    return Head(
        stream, kind, offset, length, head, time_min, time_max, lines, progress, counts, position
    )


def stream_facts(connection: sqlite3.Connection, run: str) -> dict[int, Facts]:
    """Return the facts of all streams of a run by their number."""
    rows = connection.execute(f"SELECT {_STREAM} FROM streams")
    return {row[0]: _facts(run, *row[1:]) for row in rows}


def has_ended(connection: sqlite3.Connection) -> bool:
    """Return whether every stream has an end, without taking apart what is known of each."""
    # In JSON no text within quotes holds these bytes: a quote in it would be escaped.
    row = connection.execute(
        "SELECT 1 FROM streams WHERE instr(facts, CAST('\"end\":null' AS BLOB)) LIMIT 1"
    ).fetchone()
    return row is None


def stream_number(connection: sqlite3.Connection, key: StreamKey) -> int | None:
    """Return the number of a stream, None when it is not there."""
    row = connection.execute(
        "SELECT id FROM streams WHERE writer = ? AND name = ?", (key.writer, pack_name(key.stream))
    ).fetchone()
    return int(row[0]) if row else None


def find_stream(connection: sqlite3.Connection, key: StreamKey) -> tuple[int, Facts] | None:
    """Return number and facts of a stream, None when it is not there."""
    row = connection.execute(
        f"SELECT {_STREAM} FROM streams WHERE writer = ? AND name = ?",
        (key.writer, pack_name(key.stream)),
    ).fetchone()
    return (row[0], _facts(key.run, *row[1:])) if row else None


class HeadsPage(NamedTuple):
    """Rows of `HEAD` by offset, and how often blocks had been moved when they were read."""

    kind: str
    rows: list[Any]
    generation: int


def heads_page(
    connection: sqlite3.Connection | None,
    stream: StreamKey,
    position: int | None,
    given: int,
    limit: int,
    generation: int | None,
) -> HeadsPage | None:
    """Return the next heads of a stream below `limit`, None when the stream is not there.

    position, generation   last offset read, and the generation then; None at the beginning
    given                  everything below this offset was given
    """
    if connection is None:
        return None
    connection.execute("BEGIN")
    try:
        found = find_stream(connection, stream)
        if found is None:
            return None
        (longest,) = connection.execute(
            "SELECT longest FROM streams WHERE id = ?", (found[0],)
        ).fetchone()
        (now,) = connection.execute("SELECT value FROM meta WHERE name = 'generation'").fetchone()
        if position is None or now != generation:
            position = given - longest
        rows = connection.execute(
            f"SELECT {HEAD} FROM blocks WHERE stream = ? AND offset > ? AND offset < ? "
            "ORDER BY offset LIMIT ?",
            (found[0], position, limit, HEADS_PAGE),
        ).fetchall()
        return HeadsPage(found[1].kind, rows, now)
    finally:
        connection.execute("COMMIT")


def put_stream(connection: sqlite3.Connection, facts: Facts) -> int:
    """Write the facts of a stream, joined with what was known; return its number."""
    known = find_stream(connection, facts.stream)
    if known is None:
        cursor = connection.execute(
            "INSERT INTO streams (writer, name, kind, started, facts) VALUES (?, ?, ?, ?, ?)",
            (
                facts.stream.writer,
                pack_name(facts.stream.stream),
                facts.kind,
                facts.started,
                pack_facts(facts),
            ),
        )
        return int(cursor.lastrowid or 0)
    number, before = known
    facts = totals.joined(before, facts)
    connection.execute(
        "UPDATE streams SET kind = ?, started = ?, facts = ? WHERE id = ?",
        (facts.kind, facts.started, pack_facts(facts), number),
    )
    return number


def stream_rows(connection: sqlite3.Connection, run: str) -> list[StreamRow]:
    """Return the streams of a run with their totals, sorted as readers want them."""
    rows = connection.execute(f"SELECT {_STREAM}, {_TOTALS} FROM streams").fetchall()
    return sorted((_row(connection, run, row) for row in rows), key=totals.by_start)


def pieces(connection: sqlite3.Connection, number: int, end: int, ragged: int) -> list[totals.Span]:
    """Return what of a stream is stored, as disjoint spans."""
    if not ragged:
        return [(0, end)] if end else []
    spans = connection.execute(
        "SELECT offset, length FROM blocks WHERE stream = ? ORDER BY offset", (number,)
    )
    return totals.covered(spans)


def run_of(connection: sqlite3.Connection) -> str:
    """Return the id of the run whose database this is."""
    row = connection.execute("SELECT value FROM meta WHERE name = 'run'").fetchone()
    return unpack_name(row[0])


def _facts(run: str, writer: str, name: bytes, kind: str, started: int, packed: bytes) -> Facts:
    return unpack_facts(StreamKey(run, writer, unpack_name(name)), kind, started, packed)


def _row(connection: sqlite3.Connection, run: str, row: Sequence[Any]) -> StreamRow:
    end, ragged, lines, progress, levels, time_min, time_max = row[6:]
    return totals.row(
        _facts(run, *row[1:6]),
        pieces(connection, row[0], end, ragged),
        lines=lines,
        progress=progress,
        levels=unpack_levels(levels),
        time_min=time_min,
        time_max=time_max,
    )
