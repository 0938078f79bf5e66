"""Read-only connections, lent to one thread at a time and kept for the next."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from loghaul_ingest.stores.sqlite.database import open_for_reading, translated

#: Idle connections kept open over all databases.
MOST_IDLE = 64


class Pool:
    """Connections by file. Safe for threads; a forked child begins with an empty pool."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: OrderedDict[Path, list[tuple[int, sqlite3.Connection]]] = OrderedDict()
        self._process = os.getpid()
        self._abandoned: list[object] = []

    @contextmanager
    def connection(self, path: Path) -> Iterator[sqlite3.Connection | None]:
        """Lend a connection; None when there is no database. Errors become those of the store."""
        with translated(path):
            inode = _inode(path)
            connection = self._take(path, inode) or open_for_reading(path)
            if connection is None:
                yield None
                return
            try:
                yield connection
            except BaseException:
                connection.close()
                raise
            self._give_back(path, inode, connection)

    def forget(self, path: Path) -> None:
        """Close what is idle of a database that is gone."""
        with self._lock:
            for _, connection in self._idle.pop(path, ()):
                connection.close()

    def close(self) -> None:
        """Close everything that is idle."""
        self._check_process()
        with self._lock:
            for connections in self._idle.values():
                for _, connection in connections:
                    connection.close()
            self._idle.clear()

    def _take(self, path: Path, inode: int) -> sqlite3.Connection | None:
        self._check_process()
        with self._lock:
            connections = self._idle.get(path, [])
            while connections:
                opened, connection = connections.pop()
                if opened == inode:
                    return connection
                # Deleted and begun anew: this one would go on reading the old one.
                connection.close()
            return None

    def _give_back(self, path: Path, inode: int, connection: sqlite3.Connection) -> None:
        with self._lock:
            self._idle.setdefault(path, []).append((inode, connection))
            self._idle.move_to_end(path)
            while sum(map(len, self._idle.values())) > MOST_IDLE:
                oldest, connections = next(iter(self._idle.items()))
                if connections:
                    connections.pop(0)[1].close()
                if not connections:
                    del self._idle[oldest]

    def _check_process(self) -> None:
        if self._process != os.getpid():
            # Connections do not survive a fork, and closing the parent's would disturb it: they
            # are kept, unused.
            self._abandoned.append(self._idle)
            self._lock = threading.Lock()
            self._idle = OrderedDict()
            self._process = os.getpid()


def _inode(path: Path) -> int:
    """Return what lies at a path; 0: nothing. A connection keeps its number from being reused."""
    try:
        return os.stat(path).st_ino
    except FileNotFoundError:
        return 0
