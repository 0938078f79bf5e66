"""Tidying a run whose blocks were merged, or that has ended: the index anew, pages given back.

In steps of some 50 ms, each a transaction of its own, so that batches are written in between. A
killed writer leaves nothing but an index to be built again from its beginning.
"""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from loghaul_ingest.block import Facts
from loghaul_ingest.stores.compaction import Group, merge
from loghaul_ingest.stores.sqlite.blocks import StreamBlocks
from loghaul_ingest.stores.sqlite.codec import Codec
from loghaul_ingest.stores.sqlite.database import create_index
from loghaul_ingest.stores.sqlite.rows import HEAD, has_ended, head_of, stream_facts
from loghaul_ingest.stores.sqlite.storing import insert_rows
from loghaul_ingest.stores.sqlite.terms import terms

#: Raw bytes indexed in one step; index pages joined; pages given back.
STEP_BYTES = 2 * 1024 * 1024
STEP_MERGED_PAGES = 500
STEP_FREED_PAGES = 2000

#: The index is built anew when so many of its entries per block are of merged blocks.
STALE_ENDED, STALE_OPEN = 0.5, 2.0

#: It is joined into one piece when so much of it is new since the last time.
NEW_SHARE = 0.1

REBUILD, JOIN, FREE = "rebuild", "join", "free"


class Task(NamedTuple):
    """What to do next, and how far it is: ids indexed so far, or 0."""

    name: str
    done: int = 0


def begin(connection: sqlite3.Connection) -> Task | None:
    """Return the first task that is worth doing, None for none."""
    state = dict(connection.execute("SELECT name, value FROM meta WHERE name != 'run'"))
    (blocks,) = connection.execute("SELECT count(*) FROM blocks").fetchone()
    merged, fresh = state["merged_ids"], state["last_id"] - state["polished"]
    if merged <= blocks * STALE_ENDED and fresh <= blocks * NEW_SHARE:
        return None
    ended = has_ended(connection)
    if merged > blocks * (STALE_ENDED if ended else STALE_OPEN):
        connection.execute("DROP TABLE IF EXISTS words_new")
        create_index(connection, "words_new")
        return Task(REBUILD)
    if ended and fresh > blocks * NEW_SHARE:
        return _joining(connection)
    return None


def step(connection: sqlite3.Connection, run: str, codec: Codec, task: Task) -> Task | None:
    """Do a part of a task inside the open transaction; return what is next, None when done."""
    if task.name == REBUILD:
        return _rebuild(connection, run, codec, task.done)
    if task.name == JOIN:
        return _join(connection)
    return _free(connection)


def _rebuild(connection: sqlite3.Connection, run: str, codec: Codec, done: int) -> Task | None:
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'words_new'").fetchone():
        return None  # another worker was here
    rows = connection.execute(
        f"SELECT id, stream, {HEAD} FROM blocks WHERE id > ? ORDER BY id LIMIT 1000", (done,)
    ).fetchall()
    facts = stream_facts(connection, run) if rows else {}
    size, texts = 0, []
    for row in rows:
        if size >= STEP_BYTES:
            break
        texts.append((row[0], _text(connection, row[1], facts[row[1]], row[2:], codec)))
        size += row[3]
        done = row[0]
    insert_rows(connection, "words_new (rowid, terms)", texts)
    if len(texts) < len(rows) or len(rows) == 1000:
        return Task(REBUILD, done)
    connection.execute("DROP TABLE words")
    connection.execute("ALTER TABLE words_new RENAME TO words")
    connection.execute("UPDATE meta SET value = 0 WHERE name = 'merged_ids'")
    return _joining(connection)


def _text(
    connection: sqlite3.Connection,
    number: int,
    facts: Facts,
    head: tuple[object, ...],
    codec: Codec,
) -> str:
    blocks = StreamBlocks(connection, number, facts, codec)
    group = Group((head_of(facts.stream, facts.kind, head),), False)
    (block,) = merge(group, facts, blocks.load, blocks.below)
    return terms(block)


def _joining(connection: sqlite3.Connection) -> Task:
    connection.execute(
        "UPDATE meta SET value = (SELECT value FROM meta WHERE name = 'last_id') "
        "WHERE name = 'polished'"
    )
    # A negative number makes one level of all segments; the positive ones go on with it.
    connection.execute("INSERT INTO words (words, rank) VALUES ('merge', ?)", (-STEP_MERGED_PAGES,))
    return Task(JOIN)


def _join(connection: sqlite3.Connection) -> Task:
    before = connection.total_changes
    connection.execute("INSERT INTO words (words, rank) VALUES ('merge', ?)", (STEP_MERGED_PAGES,))
    # FTS5 says by the number of changes whether there was anything left to join.
    return Task(JOIN) if connection.total_changes - before >= 2 else Task(FREE)


def _free(connection: sqlite3.Connection) -> Task | None:
    # `execute` steps this statement once, which frees one page; `executescript` runs it through,
    # but outside a transaction.
    connection.execute("COMMIT")
    connection.executescript(f"PRAGMA incremental_vacuum({STEP_FREED_PAGES})")
    connection.execute("BEGIN IMMEDIATE")
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    return Task(FREE) if free else None
