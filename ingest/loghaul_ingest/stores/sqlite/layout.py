"""Where the files of a store lie. Run ids are hostile; file names made of them are not."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

DATABASE, TOMBSTONE = ".db", ".deleted"

#: Files that SQLite puts beside a database.
COMPANIONS = ("-wal", "-shm", "-journal")


_OWN_NAME = re.compile(r"[A-Za-z0-9_.~%-]{1,120}\.db")


class Stamp(NamedTuple):
    """What a database file looked like when nobody was writing to it."""

    size_bytes: int
    modified_ns: int


class Layout:
    """The paths of a store in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runs = folder / "runs"
        self.catalog = folder / "catalog.db"

    def database(self, run: str) -> Path:
        """Return the database of a run, existing or not."""
        return self.runs / (stem(run) + DATABASE)

    def tombstone(self, run: str) -> Path:
        """Return the mark that a run was deleted, existing or not."""
        return self.runs / (stem(run) + TOMBSTONE)

    def found(self, run: str) -> Path:
        """Return the database of a run to read or to delete.

        A damaged one cannot tell its run: it goes by the name of its file.
        """
        database = self.database(run)
        if os.path.exists(database) or not _OWN_NAME.fullmatch(run):
            return database
        return self.runs / run

    def deleted(self, run: str) -> bool:
        """Return whether a run was deleted."""
        return os.path.exists(self.tombstone(run))

    def revive(self, run: str) -> None:
        """Forget that a run was deleted: somebody starts it again, and wants to see it."""
        self.tombstone(run).unlink(missing_ok=True)

    def listing(self) -> dict[Path, Stamp | None]:
        """Return the databases there are; without a stamp where somebody may be writing."""
        try:
            with os.scandir(self.runs) as entries:
                found = {entry.name: entry for entry in entries}
        except FileNotFoundError:
            return {}
        return {
            self.runs / name: stamp(self.runs / name)
            for name in sorted(found)
            if name.endswith(DATABASE) and name.removesuffix(DATABASE) + TOMBSTONE not in found
        }


def stem(run: str) -> str:
    """Return a file name for a run id: readable, harmless, one per id.

    The hash tells apart what a file system that ignores case, or a cut at 80 characters, would
    not.
    """
    raw = run.encode("utf-8", "surrogatepass")
    readable = quote(raw, safe="").replace(".", "%2E", 1 if run.startswith(".") else 0)
    return f"{readable[:80]}-{hashlib.blake2b(raw, digest_size=6).hexdigest()}"


def stamp(database: Path) -> Stamp | None:
    """Return what a database at rest looks like; None when it may be in use, or is not there."""
    try:
        if os.stat(f"{database}-wal").st_size:
            return None
    except FileNotFoundError:
        pass
    try:
        status = os.stat(database)
    except FileNotFoundError:
        return None
    return Stamp(status.st_size, status.st_mtime_ns)


def unlink(database: Path) -> None:
    """Remove a database and what SQLite put beside it. Whoever has it open keeps what he has."""
    for suffix in ("", *COMPANIONS):
        try:
            os.unlink(f"{database}{suffix}")
        except FileNotFoundError:
            pass
