"""print -> found by a search: p50 and p99, in SQLite or, with engines, through Kafka in OpenSearch.

    python tests/bench/bench_searchable.py [--lines 400]
    eval "$(sh deploy/services start)"; python tests/bench/bench_searchable.py

A script under `loghaul run` prints the time at which it prints; a reader asks for its lines again
and again, newest first, as a page in a browser would, and notes when each is among the hits. A
worker of this benchmark's own reads the spool or the topic. Nothing is flushed for the reader:
that is what a command of ours on the same machine would do, which then waits some milliseconds.
Live tail is bench_live.py's.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import uuid
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from bench_live import PRINTER
from places import prepare

from loghaul_ingest.query import parse
from loghaul_ingest.search import Request, search
from loghaul_ingest.stores import open_reader

PAUSE_SECONDS = 0.02
WAIT_SECONDS = 30.0


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--lines", type=int, default=400)
    options.add_argument("--fresh-seconds", type=float, help="of the OpenSearch reader")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-searchable-") as home:
        os.environ["LOGHAUL_HOME"] = home
        settings = prepare(chosen.fresh_seconds)
        run = f"searchable-{uuid.uuid4().hex[:8]}"
        script = [sys.executable, "-c", PRINTER, str(chosen.lines), "0"]
        command = ["run", "-q", "--run-id", run, "--", *script]
        with running("ingest"), running(*command) as runner:
            delays = watch(settings.store, run, chosen.lines)
            assert runner.wait() == 0
    delays.sort()
    parts = {name: delays[int(len(delays) * part)] for name, part in (("p50", 0.5), ("p99", 0.99))}
    shown = "; ".join(f"{name} {1000 * delay:.0f} ms" for name, delay in parts.items())
    way = "spool" if not settings.transport else "Kafka"
    print(f"{way} -> {settings.store.partition(':')[0]}: {len(delays)} lines, {shown}", end="")
    print(f"; max {1000 * delays[-1]:.0f} ms (goal: p99 <= refresh + 1.3 s)")


@contextmanager
def running(*arguments: str):
    """Run a command of ours meanwhile."""
    command = [sys.executable, "-m", "loghaul_ingest", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def watch(store: str, run: str, lines: int) -> list[float]:
    """Return how long after its print each line was a hit."""
    query, seen, delays = parse("tick file:*driver*"), set(), []
    until = time.monotonic() + WAIT_SECONDS + 0.04 * lines
    reader = open_reader(store)
    while len(seen) < lines:
        assert time.monotonic() < until, f"{len(seen)} of {lines} lines were found"
        page = search(reader, Request(query, [run], limit=200))
        now = time.time()
        for hit in page.hits:
            number, printed = hit.event["message"].split()[1:3]
            if number not in seen:
                seen.add(number)
                delays.append(now - float(printed))
        time.sleep(PAUSE_SECONDS)
    reader.close()
    return delays


if __name__ == "__main__":
    main()
