"""Opening the databases: schema, settings that were measured, errors in the store's own words."""

from __future__ import annotations

import os
import sqlite3
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import zstandard

from loghaul.places import on_network
from loghaul_ingest.errors import StoreDamaged, StoreError

#: Version of the tables of a run. A newer one is refused, not guessed at.
SCHEMA_VERSION = 1

#: Measured: with 4096, compressed blocks leave 0.03 bytes per raw byte empty at ends of pages.
PAGE_BYTES = 2048
BUSY_SECONDS = 30.0

#: A writer that begins a database has put something into it by then.
BEGIN_SECONDS = 1.0

#: 8 MB of log: fewer copies of the pages that every batch changes.
CHECKPOINT_PAGES = 4000

#: Beyond this the write-ahead log is cut back when it has been copied into the database.
JOURNAL_BYTES = 16 * 1024 * 1024

# Heads and bytes are apart so that walking heads touches few pages. `blocks.id` is the rowid in
# `words`, is never used twice, and an id in `words` alone belongs to a block that was merged.
# `words` holds no text: plain words, words at warning and above behind "!", and hashes of
# "key=value" behind "=" (see terms.py).
_SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE streams (
    id INTEGER PRIMARY KEY, writer TEXT NOT NULL, name BLOB NOT NULL, kind TEXT NOT NULL,
    started INTEGER NOT NULL, facts BLOB NOT NULL,
    stored_end INTEGER NOT NULL DEFAULT 0,
    ragged INTEGER NOT NULL DEFAULT 0, longest INTEGER NOT NULL DEFAULT 0,
    lines INTEGER NOT NULL DEFAULT 0, progress INTEGER NOT NULL DEFAULT 0,
    levels BLOB NOT NULL DEFAULT '{}', time_min INTEGER, time_max INTEGER,
    UNIQUE (writer, name)
);
CREATE TABLE blocks (
    id INTEGER PRIMARY KEY, stream INTEGER NOT NULL, offset INTEGER NOT NULL,
    length INTEGER NOT NULL, head INTEGER NOT NULL, time_min INTEGER NOT NULL,
    time_max INTEGER NOT NULL, lines INTEGER NOT NULL, progress INTEGER NOT NULL,
    levels BLOB, position INTEGER,
    UNIQUE (stream, offset)
);
CREATE INDEX blocks_by_time ON blocks (time_max);
CREATE TABLE content (id INTEGER PRIMARY KEY, data BLOB NOT NULL, marks BLOB NOT NULL);
CREATE TABLE dictionaries (id INTEGER PRIMARY KEY, data BLOB NOT NULL);
"""

#: The index; `{}` is its name. detail=none and columnsize=0: only which block has which term.
_INDEX = (
    "CREATE VIRTUAL TABLE {} USING fts5 (terms, content='', detail=none, columnsize=0, "
    "tokenize=\"ascii tokenchars '_!='\")"
)

#: So many pieces of the index are joined at once, and only then: joining four, as FTS5 does by
#: itself, is a quarter of what indexing costs. Looking a word up in each is 2 microseconds.
_PIECES = 64

#: Words of a batch that FTS5 sorts in memory before they become a piece of the index. With its own
#: 1 MiB a batch is some eight pieces, in each of which a common word stands again.
_SORTED_BYTES = 4 * 1024 * 1024


def open_for_writing(path: Path, run: str) -> sqlite3.Connection:
    """Return a connection to the database of a run, made when it is not there."""
    with translated(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(
            path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            _configure(connection, path)
            if _version(connection, path) == 0:
                _create(connection, run)
        except BaseException:
            connection.close()
            raise
        return connection


def open_for_reading(path: Path) -> sqlite3.Connection | None:
    """Return a read-only connection; None when there is no database, or none yet."""
    if not path.exists():
        return None
    with translated(path):
        try:
            return _readable(path, "mode=ro")
        except sqlite3.OperationalError:
            # A folder that cannot be written to has no room for the shared index of a WAL.
            if not path.exists():
                return None
            _check_access(path)
            return _readable(path, "mode=ro&immutable=1")


def _check_access(path: Path) -> None:
    """Raise StoreDamaged where a file may not be read: to a reader that is no better."""
    try:
        with path.open("rb"):
            pass
    except (PermissionError, IsADirectoryError) as error:
        raise StoreDamaged(
            f"{path} cannot be read ({error.strerror}): other runs are not affected; give "
            "yourself the right to read it, or delete the run"
        ) from error


def _readable(path: Path, how: str) -> sqlite3.Connection | None:
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?{how}",
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        if _version(connection, path) == 0:
            connection.close()
            _check_begun(path)
            return None
        connection.execute("PRAGMA mmap_size = 268435456")
    except BaseException:
        connection.close()
        raise
    return connection


def _check_begun(path: Path) -> None:
    """Raise StoreDamaged for a file of no bytes that nobody can be about to fill."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return
    if status.st_size == 0 and time.time() - status.st_mtime > BEGIN_SECONDS:
        raise damaged(path, "it is empty")


def _configure(connection: sqlite3.Connection, path: Path) -> None:
    network = on_network(path)
    connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.execute(f"PRAGMA journal_mode = {'DELETE' if network else 'WAL'}")
    # In WAL mode NORMAL is enough against kill -9: a commit is in the page cache.
    connection.execute(f"PRAGMA synchronous = {'FULL' if network else 'NORMAL'}")
    connection.execute(f"PRAGMA journal_size_limit = {JOURNAL_BYTES}")
    connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
    connection.execute("PRAGMA cache_size = -8192")
    connection.execute("PRAGMA secure_delete = OFF")


def _version(connection: sqlite3.Connection, path: Path) -> int:
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"{path} was written by a newer loghaul (version {version}, this one reads up to "
            f"{SCHEMA_VERSION}): upgrade to read it"
        )
    return version


def _create(connection: sqlite3.Connection, run: str) -> None:
    """Make the tables in one transaction: a killed writer leaves all or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
        for statement in _SCHEMA.split(";\n"):
            if statement.strip():
                connection.execute(statement)
        create_index(connection, "words")
        connection.executemany(
            "INSERT INTO meta VALUES (?, ?)",
            [
                ("run", run.encode("utf-8", "surrogatepass")),
                ("last_id", 0),
                ("generation", 0),
                ("raw_bytes", 0),
                ("merged_ids", 0),
                ("polished", 0),
            ],
        )
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    connection.execute("COMMIT")


def create_index(connection: sqlite3.Connection, name: str) -> None:
    """Make an empty index of words inside the open transaction."""
    connection.execute(_INDEX.format(name))
    settings = {"automerge": 0, "crisismerge": _PIECES, "hashsize": _SORTED_BYTES}
    for setting, value in settings.items():
        connection.execute(f"INSERT INTO {name} ({name}, rank) VALUES (?, ?)", (setting, value))


#: What reading a row raises that no writer of ours wrote: SQLite checks pages, not values.
_NONSENSE = (ValueError, TypeError, LookupError, AttributeError, struct.error)


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn errors of the driver, and rows that make no sense, into StoreError and StoreDamaged that
    name the file.
    """
    try:
        yield
    except sqlite3.Error as error:
        code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
        # Python's own, without a code, is of a text that is none.
        undecoded = isinstance(error, sqlite3.OperationalError) and not code
        if undecoded or code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise damaged(path, error) from error
        if code == sqlite3.SQLITE_FULL:
            raise StoreError(
                f"no space left for {path}: free some; nothing is lost, it is tried again"
            ) from error
        raise StoreError(f"{path} cannot be used now: {error}") from error
    except zstandard.ZstdError as error:
        raise damaged(path, error) from error
    except _NONSENSE as error:
        raise damaged(path, f"{type(error).__name__}: {error}") from error
    except OSError as error:
        raise StoreError(f"{path} cannot be used: {error}") from error


def damaged(path: Path, error: object) -> StoreDamaged:
    """Return the error for a database that is broken."""
    return StoreDamaged(
        f"{path} is damaged ({error}): other runs are not affected; restore the file from a "
        "backup, try `sqlite3 FILE .recover`, or delete the run"
    )
