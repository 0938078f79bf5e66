"""Where the files of a store lie. Run ids are hostile; file names made of them are not."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

DATABASE, TOMBSTONE = ".db", ".deleted"

#: A tombstone whose database may still lie beside it, because somebody is removing it.
REMOVING = ".deleting"

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

    def deleted(self, run: str) -> int | None:
        """Return when a run was deleted last, microseconds; None: never."""
        tombstone = self.tombstone(run)
        for path in (tombstone.with_suffix(REMOVING), tombstone):
            try:
                text, status = path.read_bytes(), os.stat(path)
            except FileNotFoundError:
                continue
            time, newline, _ = text.partition(b"\n")
            # One that was not written to its end, or by an earlier version, is as old as its file.
            return int(time) if newline and time.isdigit() else status.st_mtime_ns // 1000
        return None

    def removing(self, run: str) -> bool:
        """Return whether the database of a run, if it is there, is one that was deleted."""
        return os.path.exists(self.tombstone(run).with_suffix(REMOVING))

    def remove(self, database: Path, run: str, time_us: int) -> None:
        """Delete a run, `locked`: the tombstone holds before the database goes, and after it."""
        mark = database.with_suffix(REMOVING)
        mark.write_bytes(b"%d\n%b" % (time_us, run.encode("utf-8", "surrogatepass")))
        self.finish(database)

    def finish(self, database: Path) -> None:
        """Go on, `locked`, with a deletion that was begun, if one was."""
        mark = database.with_suffix(REMOVING)
        if mark.exists():
            unlink(database)
            mark.replace(database.with_suffix(TOMBSTONE))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep others from deleting runs, and from beginning them."""
        fd = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

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
            if name.endswith(DATABASE) and name.removesuffix(DATABASE) + REMOVING not in found
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


def size_bytes(database: Path) -> int:
    """Return the bytes of a database; 0 when it is gone."""
    try:
        return os.stat(database).st_size
    except FileNotFoundError:
        return 0


def unlink(database: Path) -> None:
    """Remove a database and what SQLite put beside it. Whoever has it open keeps what he has."""
    for suffix in ("", *COMPANIONS):
        try:
            os.unlink(f"{database}{suffix}")
        except FileNotFoundError:
            pass
