"""A store in files: one SQLite database per run, and a catalog that can be lost.

    DIR/runs/<name>-<hash>.db        everything of a run; the name is the run id made harmless
    DIR/runs/<name>-<hash>.deleted   when; writers from before are not listened to any more
    DIR/runs/<name>-<hash>.deleting  the same while the database is being removed: it is not shown
    DIR/catalog.db                   what the list of runs shows of those that rest; a cache

A run is deleted by deleting its file, and a damaged one does not touch the others. Processes read
while another writes (WAL), except on network file systems, where readers and writer wait for each
other. Survives kill -9 at any moment; power loss may cost the last seconds, never the file.
"""

from __future__ import annotations

from pathlib import Path

from loghaul_ingest.errors import UsageError
from loghaul_ingest.stores.base import Writer
from loghaul_ingest.stores.sqlite.layout import Layout
from loghaul_ingest.stores.sqlite.reader import SqliteReader

__all__ = ["SqliteReader", "open_reader", "open_writer"]


def open_writer(rest: str) -> Writer:
    """Open "sqlite:///dir", creating the folder. StoreError when that cannot be."""
    # A command that reads starts a fifth faster without it.
    from loghaul_ingest.stores.sqlite.writer import SqliteWriter

    return SqliteWriter(_layout(rest))


def open_reader(rest: str) -> SqliteReader:
    """Open "sqlite:///dir"; a folder that is not there holds no runs."""
    return SqliteReader(_layout(rest))


def _layout(rest: str) -> Layout:
    if not rest:
        raise UsageError("a SQLite store needs a folder: sqlite:///absolute/folder")
    return Layout(Path(rest).absolute())
