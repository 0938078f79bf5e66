"""Embedded ingest and searches, spool to SQLite, against VictoriaLogs, in one run.

    python tests/bench/bench_victorialogs.py [--lines 2000000] [--victoria PATH]

The binary is that of `go install` (PACKAGE), in `$(go env GOPATH)/bin` if not told otherwise. Both
have the same lines, in runs of 500,000:

    ingest    ours is `loghaul ingest --once`, a process from its start to its end, compaction
              included; VictoriaLogs takes ready-made JSON lines, two requests in flight, until all
              can be searched, some in its memory alone. Its CPU is told up to there, and again with
              all of them on disk and merged
    disk      bytes of the store at rest per raw byte, compacted and merged
    searches  first page of 100, newest first, and a count; ms, median of seven, warm. Ours in
              process, VictoriaLogs over one connection, by `limit` (the newest, by its manual)

VictoriaLogs is asked as is fastest for it: words in the case that they have in the corpus (ours
know no case), an expression without \\b, and the corpus's time range, which ours is not told. Hits
are counted by both and must be equal. Read the ratios: the machine is shared.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from pathlib import Path
from urllib.parse import urlencode

sys.path.insert(0, str(Path(__file__).parent))

import corpus
from bench_ingest import size, spool
from bench_opensearch import median
from bench_search import RUN_LINES, _high_word, _words
from processes import cpu_seconds

from loghaul import config
from loghaul_ingest.query import parse
from loghaul_ingest.search import Request, count, search
from loghaul_ingest.stores import open_reader

PACKAGE = "github.com/VictoriaMetrics/VictoriaLogs/app/victoria-logs@v1.52.2"
BODY_LINES = 10_000
ONE_RUN = '{run="run-000"}'
SECOND = timedelta(seconds=1)
HEADER = re.compile(r"([\d-]{10} [\d:]{8}),(\d{3})\|([^|]+)\|([A-Z]+)\|")


class Victoria:
    """Plain HTTP to a VictoriaLogs, over one connection."""

    def __init__(self, place: str, pid: int) -> None:
        self.place, self.pid, self.times = place, pid, {}
        self.connection = http.client.HTTPConnection(place, timeout=300)

    def ask(self, path: str, body: bytes | None = None) -> bytes:
        self.connection.request("POST", path, body)
        reply = self.connection.getresponse()
        if reply.status != 200:
            raise RuntimeError(f"{path}: {reply.status} {reply.read()[:500]!r}")
        return reply.read()

    def query(self, text: str, **more: int) -> bytes:
        return self.ask("/select/logsql/query?" + urlencode({"query": text, **self.times, **more}))

    def count(self, text: str) -> int:
        return int(json.loads(self.query(f"{text} | stats count() hits"))["hits"])

    def feed(self, bodies: list[bytes]) -> None:
        def insert(share: list[bytes]) -> None:
            other = Victoria(self.place, self.pid)
            for body in share:
                other.ask("/insert/jsonline?_stream_fields=run", body)

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(insert, (bodies[::2], bodies[1::2])))
        self.ask("/internal/force_flush")

    def merge(self) -> None:
        self._until(b'vl_storage_rows{type="storage/inmemory"} 0')
        self.ask("/internal/force_merge")
        time.sleep(1)  # it is answered before it begins
        self._until(b"vl_active_force_merges 0")
        time.sleep(2)  # files of parts that were merged go a moment later

    def _until(self, line: bytes) -> None:
        while line not in self.ask("/metrics").splitlines():
            time.sleep(0.2)


@contextmanager
def running(binary: Path, data: Path) -> Iterator[Victoria]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host, port = free.getsockname()
    options = ["-retentionPeriod=100y", "-futureRetention=100y", "-loggerLevel=ERROR"]
    where = [f"-httpListenAddr={host}:{port}", f"-storageDataPath={data}"]
    process = subprocess.Popen([binary, *options, *where])
    try:
        with socket.socket() as probe:
            while probe.connect_ex((host, port)):
                assert process.poll() is None, "VictoriaLogs ended"
                time.sleep(0.1)
        yield Victoria(f"{host}:{port}", process.pid)
    finally:
        process.terminate()
        process.wait()


def installed() -> Path:
    if go := shutil.which("go"):
        root = subprocess.run([go, "env", "GOPATH"], check=True, stdout=subprocess.PIPE, text=True)
        if (binary := Path(root.stdout.strip(), "bin", "victoria-logs")).exists():
            return binary
    sys.exit(f"there is no victoria-logs: give --victoria PATH, or make one: go install {PACKAGE}")


def records(lines: list[bytes]) -> Iterator[bytes]:
    """Yield each line as JSON; one that says no time has that of the line before."""
    stamp = corpus.START.isoformat()
    for number, line in enumerate(lines):
        record = {"_msg": line[:-1].decode(), "run": f"run-{number // RUN_LINES:03d}"}
        if header := HEADER.match(record["_msg"]):
            stamp = f"{header[1]}.{header[2]}Z"
            record["logger"], record["level"] = header[3], header[4]
        yield json.dumps({"_time": stamp, **record}).encode() + b"\n"


def taken_in(home: Path, lines: list[bytes]) -> tuple[float, float]:
    """Spool the lines, and let a worker store them; return its wall and CPU seconds."""
    for first in range(0, len(lines), RUN_LINES):
        data = b"".join(lines[first : first + RUN_LINES])
        spool(config.load(home=home).spool, data, run=f"run-{first // RUN_LINES:03d}")
    command = [sys.executable, "-m", "loghaul_ingest", "ingest", "--once"]
    wall, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, env={**os.environ, "LOGHAUL_HOME": str(home)}, check=True)
    wall, after = time.perf_counter() - wall, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def ingest(victoria: Victoria, folder: Path, lines: list[bytes]) -> None:
    source = records(lines)
    bodies = [b"".join(part) for part in iter(lambda: list(islice(source, BODY_LINES)), [])]
    last = datetime.fromisoformat(json.loads(bodies[-1].splitlines()[-1])["_time"])
    victoria.times = {"start": corpus.START.isoformat(), "end": (last + SECOND).isoformat()}
    wall, cpu = time.perf_counter(), cpu_seconds(victoria.pid)
    victoria.feed(bodies)
    wall, fed = time.perf_counter() - wall, cpu_seconds(victoria.pid) - cpu
    victoria.merge()
    merged = cpu_seconds(victoria.pid) - cpu
    assert victoria.count("*") == len(lines)
    own_wall, own = taken_in(folder / "ours", lines)
    raw, million = sum(map(len, lines)), len(lines) / 1e6
    row("lines/s", len(lines) / own_wall, len(lines) / wall, form=",.0f")
    row("CPU s per M lines", own / million, fed / million)
    row("the same, merged", own / million, merged / million)
    stored = (size(folder / name) / raw for name in ("ours/store", "theirs"))
    row("bytes per raw byte", *stored, form=".3f")


def asked(lines: list[bytes]) -> Iterator[tuple[str, str, str]]:
    """Yield the name of a search, our query, and that of VictoriaLogs."""
    rare, medium, common, phrase, high = words = *_words(len(lines)), _high_word(len(lines))
    sample = b"".join(lines[:100_000]).decode()
    cased = {one: re.search(one.strip('"'), sample, re.IGNORECASE)[0] for one in words}
    yield "absent word", "nosuchword", "nosuchword"
    yield "rare word", rare, cased[rare]
    yield "rare word, one run", rare, f"{ONE_RUN} {cased[rare]}"
    yield "medium word", medium, cased[medium]
    yield "common word", common, cased[common]
    yield "phrase", phrase, f'"{cased[phrase]}"'
    yield "level + word", f"level:>=warning {high}", f"level:in(WARNING, ERROR) {cased[high]}"
    regex = rf"{cased[common]}.*[a-f]\d{{3}}"
    yield "regex with a literal", rf"/\b{regex}/", f"~`{regex}`"
    yield "count, one run", common, f"{ONE_RUN} {cased[common]}"


def searches(victoria: Victoria, folder: Path, lines: list[bytes]) -> None:
    reader = open_reader(f"sqlite://{folder}/ours/store")
    for name, form, query in asked(lines):
        parsed, runs = parse(form), ["run-000"] if ONE_RUN in query else None
        ours, theirs = partial(count, reader, parsed, runs), partial(victoria.count, query)
        hits, found = ours().total, theirs()
        if hits != found:
            raise RuntimeError(f"{name}: {hits:,} hits, VictoriaLogs has {found:,}")
        if not name.startswith("count"):
            ours = partial(search, reader, Request(parsed, runs))
            theirs = partial(victoria.query, query, limit=100)
        row(name, median(ours), median(theirs), f"{hits:,}  {form}")
    reader.close()


def row(name: str, ours: float, theirs: float, note: str = "", form: str = ".1f") -> None:
    text = f"{name:22}{ours:>12{form}}{theirs:>14{form}}{ours / theirs:9.2f}x    {note}"
    print(text.rstrip(), flush=True)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--lines", type=int, default=2_000_000)
    options.add_argument("--victoria", type=Path, help="binary of VictoriaLogs")
    chosen = options.parse_args()
    binary, lines = chosen.victoria or installed(), list(corpus.lines(chosen.lines, 1))
    now, load = datetime.now(UTC), os.getloadavg()[0]
    print(f"{len(lines):,} lines, {now:%Y-%m-%d %H:%M}, load {load:.1f}")
    print(f"{'':22}{'ours':>12}{'VictoriaLogs':>14}{'ratio':>10}    hits")
    with tempfile.TemporaryDirectory(prefix="bench-victorialogs-") as scratch:
        folder = Path(scratch).resolve()
        with running(binary, folder / "theirs") as victoria:
            ingest(victoria, folder, lines)
            searches(victoria, folder, lines)


if __name__ == "__main__":
    main()
