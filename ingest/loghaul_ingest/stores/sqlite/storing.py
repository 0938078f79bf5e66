"""Writing a batch into the database of a run: one transaction, counters included."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from itertools import chain, groupby

from loghaul_ingest.block import Block, BlockKey, Facts
from loghaul_ingest.stores import totals
from loghaul_ingest.stores.sqlite.codec import Codec, pack_levels, unpack_levels
from loghaul_ingest.stores.sqlite.rows import put_stream, stream_number
from loghaul_ingest.stores.sqlite.terms import terms

#: Rows per statement: with 11 columns fewer values than any SQLite takes.
_ROWS = 64

#: A block as its columns: (block, data, marks, terms), packed before the lock is taken.
Packed = tuple[Block, bytes, bytes, str]


def pack(blocks: Iterable[Block], codec: Codec) -> list[Packed]:
    """Return blocks as they will lie in the tables."""
    return [
        (block, codec.pack(block.data), codec.pack_marks(block.marks), terms(block))
        for block in blocks
    ]


def store(
    connection: sqlite3.Connection, packed: Sequence[Packed], facts: Sequence[Facts]
) -> list[BlockKey]:
    """Create the blocks inside the open transaction; return the keys that stood already."""
    numbers = {one.stream: put_stream(connection, one) for one in facts}
    repeats: list[BlockKey] = []
    fresh: list[tuple[int, Packed]] = []
    for stream, group in groupby(sorted(packed, key=_place), lambda one: one[0].head.stream):
        items = list(group)
        if stream not in numbers:
            known = stream_number(connection, stream)
            if known is None:
                known = put_stream(connection, totals.facts_of(items[0][0].head))
            numbers[stream] = known
        new = _new(connection, numbers[stream], items, repeats)
        if new:
            add_totals(connection, numbers[stream], [item[0] for item in new])
            fresh += [(numbers[stream], item) for item in new]
    if fresh:
        insert(connection, fresh)
        connection.execute(
            "UPDATE meta SET value = value + ? WHERE name = 'raw_bytes'",
            (sum(item[0].head.length for _, item in fresh),),
        )
    return repeats


def insert(connection: sqlite3.Connection, items: Sequence[tuple[int, Packed]]) -> None:
    """Add rows for blocks, each with its stream's number, without touching the totals."""
    (last,) = connection.execute("SELECT value FROM meta WHERE name = 'last_id'").fetchone()
    heads, contents, words = [], [], []
    for block_id, (number, (block, data, marks, text)) in enumerate(items, last + 1):
        head = block.head
        heads.append(
            (
                block_id,
                number,
                head.offset,
                head.length,
                head.head,
                head.time_min,
                head.time_max,
                head.lines,
                head.progress,
                pack_levels(head.levels),
                head.position,
            )
        )
        contents.append((block_id, data, marks))
        words.append((block_id, text))
    insert_rows(connection, "blocks", heads)
    insert_rows(connection, "content", contents)
    insert_rows(connection, "words (rowid, terms)", words)
    connection.execute("UPDATE meta SET value = ? WHERE name = 'last_id'", (last + len(items),))


def insert_rows(
    connection: sqlite3.Connection, table: str, rows: Sequence[Sequence[object]]
) -> None:
    """Insert rows of equal length, of which there may be none, many per statement.

    SQLite works without the interpreter for the length of a statement: with one per row this thread
    would wait for it once per row, as long as another thread holds on to it.
    """
    for start in range(0, len(rows), _ROWS):
        part = rows[start : start + _ROWS]
        values = ",".join([f"({','.join('?' * len(part[0]))})"] * len(part))
        connection.execute(f"INSERT INTO {table} VALUES {values}", list(chain.from_iterable(part)))


def _place(one: Packed) -> tuple[object, int]:
    return one[0].head.stream, one[0].head.offset


def _new(
    connection: sqlite3.Connection, number: int, items: Sequence[Packed], repeats: list[BlockKey]
) -> list[Packed]:
    """Return the blocks of a stream that are not there yet; add the keys of others to `repeats`."""
    (end,) = connection.execute("SELECT stored_end FROM streams WHERE id = ?", (number,)).fetchone()
    taken = _taken(connection, number, items) if items[0][0].head.offset < end else set()
    fresh = []
    for item in items:
        head = item[0].head
        if head.offset in taken:
            repeats.append(head.key)
        else:
            taken.add(head.offset)
            fresh.append(item)
    return fresh


def _taken(connection: sqlite3.Connection, number: int, items: Sequence[Packed]) -> set[int]:
    """Return the offsets at which a block stands already, among those of `items`."""
    rows = connection.execute(
        "SELECT offset FROM blocks WHERE stream = ? AND offset BETWEEN ? AND ?",
        (number, items[0][0].head.offset, items[-1][0].head.offset),
    )
    return {offset for (offset,) in rows}


def add_totals(connection: sqlite3.Connection, number: int, blocks: Sequence[Block]) -> None:
    """Count new blocks, by ascending offset, in the row of their stream."""
    end, ragged, longest, lines, progress, packed, time_min, time_max = connection.execute(
        "SELECT stored_end, ragged, longest, lines, progress, levels, time_min, time_max "
        "FROM streams WHERE id = ?",
        (number,),
    ).fetchone()
    levels = unpack_levels(packed)
    for block in blocks:
        head = block.head
        # Once something lies elsewhere than at the end, extents are computed from the blocks.
        ragged = ragged or head.offset != end
        end = max(end, head.end)
        longest = max(longest, head.length)
        lines += head.lines
        progress += head.progress
        for level, count in head.levels.items():
            levels[level] = levels.get(level, 0) + count
        time_min = head.time_min if time_min is None else min(time_min, head.time_min)
        time_max = head.time_max if time_max is None else max(time_max, head.time_max)
    connection.execute(
        "UPDATE streams SET stored_end = ?, ragged = ?, longest = ?, lines = ?, progress = ?, "
        "levels = ?, time_min = ?, time_max = ? WHERE id = ?",
        (
            end,
            int(ragged),
            longest,
            lines,
            progress,
            pack_levels(levels) or b"{}",
            time_min,
            time_max,
            number,
        ),
    )
