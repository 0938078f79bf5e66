"""The catalog: what the list of runs shows of runs at rest, so that their files stay closed.

A cache and nothing more. A row counts only while the database looks as it did when the row was
made; a catalog that is missing, damaged or cannot be written only makes lists slower.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import orjson

from loghaul_ingest.stores.base import RunRow
from loghaul_ingest.stores.sqlite.codec import pack_name, unpack_name
from loghaul_ingest.stores.sqlite.layout import Layout, Stamp, unlink

_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
    file TEXT PRIMARY KEY, run BLOB NOT NULL, size_bytes INTEGER NOT NULL,
    modified_ns INTEGER NOT NULL, time_max INTEGER, summary BLOB
) WITHOUT ROWID
"""


class Resting(NamedTuple):
    """A run whose database nobody is writing to. `summary` is None for a run without streams."""

    run: str
    time_max: int | None
    summary: RunRow | None


class Catalog:
    """The catalog of a store."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def read(self) -> dict[Path, tuple[Stamp, Resting]]:
        """Return what is known per database; nothing when the catalog cannot be read."""
        if not self._layout.catalog.exists():
            return {}
        try:
            with self._open("ro") as connection:
                rows = connection.execute(
                    "SELECT file, run, size_bytes, modified_ns, time_max, summary FROM runs"
                ).fetchall()
            return {
                self._layout.runs / file: (
                    Stamp(size, modified),
                    Resting(unpack_name(run), time_max, _summary(run, summary)),
                )
                for file, run, size, modified, time_max, summary in rows
            }
        except (sqlite3.Error, ValueError, TypeError):
            return {}

    def put(self, database: Path, stamp: Stamp, resting: Resting) -> None:
        """Remember a run at rest. A damaged catalog is begun anew; one in the way is left."""
        row = (
            database.name,
            pack_name(resting.run),
            *stamp,
            resting.time_max,
            _packed(resting.summary),
        )
        self._write("INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?, ?, ?)", row)

    def forget(self, database: Path) -> None:
        """Drop the row of a run."""
        if self._layout.catalog.exists():
            self._write("DELETE FROM runs WHERE file = ?", (database.name,))

    def _write(self, statement: str, row: tuple[object, ...]) -> None:
        for _ in range(2):
            try:
                with self._open("rwc") as connection:
                    connection.execute("PRAGMA journal_mode = DELETE")
                    connection.execute("PRAGMA synchronous = OFF")
                    connection.execute(_SCHEMA)
                    connection.execute(statement, row)
                return
            except sqlite3.OperationalError:
                return
            except sqlite3.DatabaseError:
                unlink(self._layout.catalog)

    @contextmanager
    def _open(self, mode: str) -> Iterator[sqlite3.Connection]:
        from urllib.parse import quote

        connection = sqlite3.connect(
            f"file:{quote(str(self._layout.catalog))}?mode={mode}",
            uri=True,
            timeout=5.0,
            isolation_level=None,
        )
        try:
            yield connection
        finally:
            connection.close()


def _packed(summary: RunRow | None) -> bytes | None:
    if summary is None:
        return None
    import json

    return json.dumps(summary._asdict()).encode()


def _summary(run: bytes, packed: bytes | None) -> RunRow | None:
    return RunRow(**orjson.loads(packed)) if packed else None
