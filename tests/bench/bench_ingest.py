"""Embedded ingest, spool to SQLite, against SQLite with FTS5 and one row per line, in one run.

    python tests/bench/bench_ingest.py [lines]        # default 400,000

The other side has everything in its favour: lines in memory, one transaction per 2,000 rows, WAL,
`synchronous=normal`, an external-content FTS5 table, nothing exact and nothing recognised. It is
measured as FTS5 is by default, and lean (`detail=none`: no phrases). Read the ratios: the machine
is shared. CPU is that of the process, all threads.
"""

from __future__ import annotations

import asyncio
import resource
import sqlite3
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import corpus

from loghaul import config
from loghaul.spool import Limits, SpoolWriter
from loghaul_ingest import worker
from loghaul_ingest.sources.spool import SpoolSource
from loghaul_ingest.stack import stack


class NullWriter:
    """Takes everything and keeps nothing: what is left is the worker's own cost."""

    async def extents(self, streams):
        from loghaul_ingest.block import Extent

        return {key: Extent() for key in streams}

    async def write(self, batch):
        return []

    async def compact(self, stream):
        return 0


def spool(root: Path, data: bytes, read_bytes: int = 4096, run: str = "bench") -> None:
    """As a pipe gives it: reads of about 4 KiB."""
    limits = Limits(32 * 2**30, 0)
    writer = SpoolWriter(root, {"run.id": run, "role": "process"}, limits=limits)
    stream = writer.stream("stdout", "text", "azureml-logs/70_driver_log.txt")
    for at in range(0, len(data), read_bytes):
        assert writer.append(stream, data[at : at + read_bytes])
    writer.end("exit", {"exit_code": 0})
    writer.close()


def measured(work):
    """Return (wall seconds, CPU seconds)."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def embedded(folder: Path, data: bytes):
    settings = config.load(home=folder)
    spool(settings.spool, data)
    return measured(lambda: worker.once(settings, compact_seconds=0))


def null_store(folder: Path, data: bytes):
    settings = config.load(home=folder)
    spool(settings.spool, data)

    async def run():
        source = SpoolSource(settings.spool)
        hauler = stack(source, NullWriter(), None, folder / "dead-letters")
        while source.live or not hauler.core.settled or not hauler.core.counts.chunks:
            await hauler.step(0.005)
            await hauler.commit()
        await hauler.finish()

    return measured(lambda: asyncio.run(run()))


def row_per_line(folder: Path, data: bytes, detail: str = "full"):
    folder.mkdir()
    lines = data.decode("utf-8", "replace").split("\n")
    connection = sqlite3.connect(folder / "rows.db", isolation_level=None)
    connection.executescript(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"
        "CREATE TABLE lines (id INTEGER PRIMARY KEY, time INTEGER, stream INTEGER, line TEXT);"
        "CREATE VIRTUAL TABLE words USING fts5(line, content='lines', content_rowid='id',"
        f" detail={detail});"
    )

    def run():
        for at in range(0, len(lines), 2000):
            rows = [(at + i, at, 1, line) for i, line in enumerate(lines[at : at + 2000])]
            connection.execute("BEGIN")
            connection.executemany("INSERT INTO lines VALUES (?, ?, ?, ?)", rows)
            words = [(row[0], row[3]) for row in rows]
            connection.executemany("INSERT INTO words (rowid, line) VALUES (?, ?)", words)
            connection.execute("COMMIT")

    result = measured(run)
    connection.close()
    return result


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 400_000
    data = corpus.corpus(count)
    results = {}
    with tempfile.TemporaryDirectory() as name:
        for label, run in (
            ("one row per line", row_per_line),
            ("the same, lean", partial(row_per_line, detail="none")),
            ("embedded ingest", embedded),
            ("null store", null_store),
        ):
            wall, cpu = run(Path(name, label), data)
            results[label] = (count / wall, cpu / count * 1e6)
            stored = size(Path(name, label)) / len(data)
            print(
                f"{label:18} {count / wall:10,.0f} lines/s  {cpu / count * 1e6:6.2f} us CPU/line"
                f"  {stored:5.2f} bytes per raw byte"
            )
    ours = results["embedded ingest"]
    for label in ("one row per line", "the same, lean"):
        rows = results[label]
        times, cpu = ours[0] / rows[0], ours[1] / rows[1]
        print(f"against {label}: {times:.2f}x lines/s, {cpu:.2f}x CPU per line")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"peak memory {peak} MB, of which corpus {len(data) // 2**20} MB and its rows")


if __name__ == "__main__":
    main()
