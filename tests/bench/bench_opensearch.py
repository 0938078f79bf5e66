"""Worker into OpenSearch, against the same node fed with one document per line, in one run.

    python tests/bench/bench_opensearch.py [--lines 400000] [--opensearch 3] [--heap 2g] [--pin]

Three things are fed to a node of its own (no other plugins, no replica, translog on disk before
each answer), two requests in flight each, in this order, twice; the better round counts:

    lines     ready-made bulk bodies of 5 MB, one document per line, automatic ids, a lean mapping:
              what every pipeline of one document per line is bound by, its own work not included
    worker    spool -> worker -> OpenSearch, everything included
    blocks    ready-made bulk bodies of the same blocks: our own ceiling

CPU is that of the JVM and of this process, per million lines. Sizes are files on disk, as they lie
and after a forced merge. Read the ratios: the machine is shared.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import corpus
from bench_ingest import spool
from bench_search import _words

from loghaul import config
from loghaul.chunk import Mark, StreamKey
from loghaul_ingest import worker
from loghaul_ingest.block import MAX_LINES, Facts
from loghaul_ingest.query import parse
from loghaul_ingest.seal import seal
from loghaul_ingest.search import Request, count, search
from loghaul_ingest.stores import open_reader, open_writer
from loghaul_ingest.stores.base import Batch
from loghaul_ingest.stores.opensearch.documents import action, document

ROOT = Path(__file__).parents[2]
STARTED = 1_764_000_000_000_000
BODY_BYTES = 5 * 2**20
LINE_MAPPING = {
    "dynamic": "strict",
    "properties": {
        "@timestamp": {"type": "date"},
        "run": {"type": "keyword"},
        "file": {"type": "keyword"},
        "level": {"type": "keyword"},
        "offset": {"type": "long"},
        "message": {"type": "match_only_text"},
    },
}


class Node:
    """A node started for this, and plain HTTP to it."""

    def __init__(self, home: Path, version: str, heap: str) -> None:
        self.home = home
        text = self._services("start", "opensearch", "--opensearch", version, "--heap", heap)
        self.place = text.split("//")[1].split("/")[0]
        self.folder = next(home.glob("opensearch-*"))
        self.pid = int((self.folder / "pid").read_text())

    def _services(self, *arguments: str) -> str:
        command = ["sh", "deploy/services", *arguments, "--home", str(self.home)]
        return subprocess.run(
            command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
        ).stdout

    def stop(self, forget: bool = True) -> None:
        self._services("stop", "opensearch", *(["--forget"] if forget else []))

    def ask(self, method: str, path: str, body: object = None) -> dict:
        connection = http.client.HTTPConnection(self.place, timeout=300)
        raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        connection.request(method, path, raw, {"content-type": "application/json"})
        reply = json.loads(connection.getresponse().read())
        connection.close()
        if "error" in reply or reply.get("errors"):
            raise RuntimeError(str(reply)[:500])
        return reply

    def pin(self, core: int) -> None:
        """Let the node have one core, and this process the other."""
        command = ["taskset", "-a", "-p", "-c", str(core), str(self.pid)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        os.sched_setaffinity(0, os.sched_getaffinity(0) - {core})

    def cpu(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def size(self, index: str) -> int:
        self.ask("POST", f"/{index}/_flush?force=true")
        found = self.ask("GET", f"/{index}/_settings")
        folders = [one["settings"]["index"]["uuid"] for one in found.values()]
        return sum(
            path.stat().st_size
            for uuid in folders
            for path in (self.folder / "data/nodes/0/indices" / uuid).rglob("*")
            if path.is_file()
        )

    def feed(self, bodies: list[bytes], path: str = "/_bulk?filter_path=took,errors") -> None:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda body: self.ask("POST", path, body), bodies))


def measured(node: Node, work) -> tuple[float, float, float]:
    """Return (wall, CPU of the JVM, CPU of this process), seconds."""
    wall, jvm, own = time.perf_counter(), node.cpu(), time.process_time()
    work()
    return time.perf_counter() - wall, node.cpu() - jvm, time.process_time() - own


def line_bodies(lines: list[bytes], run: str = "run-000", first: int = 0) -> list[bytes]:
    bodies, part, size, offset = [], [], 0, 0
    for number, line in enumerate(lines, first):
        text = line[:-1].decode()
        source = {
            "@timestamp": (STARTED + number * 1000) // 1000,
            "run": run,
            "file": "azureml-logs/70_driver_log.txt",
            "level": text.split("|")[2].lower() if text.count("|") > 2 else "none",
            "offset": offset,
            "message": text,
        }
        raw = b'{"index":{}}\n' + json.dumps(source).encode() + b"\n"
        part.append(raw)
        size += len(raw)
        offset += len(line)
        if size >= BODY_BYTES:
            bodies.append(b"".join(part))
            part, size = [], 0
    return [*bodies, b"".join(part)] if part else bodies


def block_bodies(lines: list[bytes], index: str) -> list[bytes]:
    bodies, part, size = [], [], 0
    for block in sealed(lines):
        raw = action("create", index, block.head) + document(block)
        part.append(raw)
        size += len(raw)
        if size >= 2 * 2**20:
            bodies.append(b"".join(part))
            part, size = [], 0
    return [*bodies, b"".join(part)] if part else bodies


FACTS = Facts(StreamKey("run-000", "0" * 32, "stdout"), "text", STARTED, {"run.id": "run-000"})


def sealed(lines: list[bytes]):
    offset = 0
    for start in range(0, len(lines), MAX_LINES):
        part = lines[start : start + MAX_LINES]
        data = b"".join(part)
        marks = [Mark(len(data), STARTED + start * 1000)]
        yield seal(FACTS, offset, data, marks)
        offset += len(data)


def round_of(node: Node, lines: list[bytes], number: int, bodies: list[bytes]) -> dict[str, tuple]:
    found = {}
    settings = {"number_of_shards": 1, "number_of_replicas": 0}
    node.ask("PUT", f"/lines{number}", {"settings": settings, "mappings": LINE_MAPPING})
    path = f"/lines{number}/_bulk?filter_path=took,errors"
    found["lines"] = measured(node, lambda: node.feed(bodies, path))
    with tempfile.TemporaryDirectory() as scratch:
        dsn = f"opensearch://{node.place}/worker{number}"
        settled = config.load(home=Path(scratch), store=dsn)
        spool(settled.spool, b"".join(lines), run="run-000")
        asyncio.run(open_writer(dsn).close())  # templates are made once in a store's life
        found["worker"] = measured(node, lambda: worker.once(settled, compact_seconds=0))
    prefix = f"ready{number}"
    dsn = f"opensearch://{node.place}/{prefix}"
    asyncio.run(prepare(dsn))
    index = f"{prefix}-blocks-v1-2025.11"
    ready = block_bodies(lines, index)
    found["blocks"] = measured(node, lambda: node.feed(ready))
    return found


async def prepare(dsn: str) -> None:
    """Make the index of the blocks and let the store know the stream."""
    writer = open_writer(dsn)
    await writer.write(Batch((), (FACTS,)))
    await writer.close()


def ingest(node: Node, lines: list[bytes], rounds: int) -> None:
    bodies = line_bodies(lines)
    best: dict[str, tuple] = {}
    for number in range(rounds):
        for name, figures in round_of(node, lines, number, bodies).items():
            best[name] = min(best.get(name, figures), figures)
    million = len(lines) / 1e6
    for name, (wall, jvm, own) in best.items():
        print(
            f"{name:8}{len(lines) / wall:12,.0f} lines/s   JVM {jvm / million:6.1f}   "
            f"this process {own / million:6.1f} CPU s per M lines"
        )
    ratio = best["lines"][0] / best["worker"][0]
    ceiling = best["blocks"][0] / best["worker"][0]
    print(f"worker against lines {ratio:.2f}x, against its own blocks ready-made {ceiling:.2f}x")


def sizes(node: Node, lines: list[bytes], settle_seconds: float) -> None:
    raw = sum(map(len, lines))
    indices = {"lines": "lines0", "blocks": "worker0-blocks-v1-*"}
    print("bytes per raw byte", end="")
    for name, index in indices.items():
        print(f"   {name} {node.size(index) / raw:.3f}", end="", flush=True)
    # The recovery source goes with a merge after the copies have said what they hold.
    time.sleep(settle_seconds)
    merged = {}
    for name, index in indices.items():
        node.ask("POST", f"/{index}/_flush?force=true")
        node.ask("POST", f"/{index}/_forcemerge?max_num_segments=1")
        node.ask("POST", f"/{index}/_refresh")
        time.sleep(2)  # files of segments that were merged go a moment later
        merged[name] = node.size(index) / raw
    shown = "   ".join(f"{name} {size:.3f}" for name, size in merged.items())
    print(f"   merged: {shown}   ratio {merged['blocks'] / merged['lines']:.2f}")


def searches(node: Node, lines: list[bytes]) -> None:
    rare, medium, common, phrase = _words(min(len(lines), 200_000))
    reader = open_reader(f"opensearch://{node.place}/worker0")
    forms = {
        "rare word": (rare, {"match": {"message": rare}}),
        "medium word": (medium, {"match": {"message": medium}}),
        "common word": (common, {"match": {"message": common}}),
        "phrase": (phrase, {"match_phrase": {"message": phrase.strip('"')}}),
        "level + word": (
            f"level:>=warning {common}",
            {
                "bool": {
                    "filter": [
                        {"terms": {"level": ["warning", "error"]}},
                        {"match": {"message": common}},
                    ]
                }
            },
        ),
        "regex with a literal": (rf"/(?i)\b{common}\b.*[a-f]\d{{3}}/", None),
        "absent word": ("nosuchwordanywhere", {"match": {"message": "nosuchwordanywhere"}}),
        "every line": ("*", {"match_all": {}}),
    }
    print(f"{'first page, ms':24}{'blocks':>10}{'lines':>10}{'count':>10}    hits")
    for name, (form, query) in forms.items():
        parsed = parse(form)
        ours = median(lambda parsed=parsed: search(reader, Request(parsed)))
        begun = time.perf_counter()
        hits = count(reader, parsed).total
        counted = (time.perf_counter() - begun) * 1000
        body = {"size": 100, "query": query, "sort": [{"@timestamp": "desc"}]}
        theirs = median(lambda b=body: node.ask("POST", "/lines0/_search", b)) if query else 0.0
        print(f"{name:24}{ours:10.1f}{theirs:10.1f}{counted:10.0f}    {hits:,}  {form}")
    reader.close()


def median(work, times: int = 7) -> float:
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        work()
        taken.append((time.perf_counter() - begun) * 1000)
    return statistics.median(taken)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--lines", type=int, default=400_000)
    options.add_argument("--rounds", type=int, default=2)
    options.add_argument("--opensearch", default="3")
    options.add_argument("--heap", default="2g")
    options.add_argument("--settle-seconds", type=float, default=65)
    options.add_argument("--pin", action="store_true", help="worker and JVM on a core each")
    chosen = options.parse_args()
    lines = list(islice(corpus.lines(chosen.lines, 1), chosen.lines))
    raw = sum(map(len, lines))
    print(
        f"OpenSearch {chosen.opensearch}, {len(lines):,} lines of {raw / len(lines):.1f} bytes, "
        f"{datetime.now(UTC):%Y-%m-%d %H:%M}, load {os.getloadavg()[0]:.1f}"
    )
    with tempfile.TemporaryDirectory(prefix="bench-opensearch-") as home:
        node = Node(Path(home), chosen.opensearch, chosen.heap)
        try:
            if chosen.pin:
                node.pin(max(os.sched_getaffinity(0)))
                return ingest(node, lines, chosen.rounds)
            ingest(node, lines, chosen.rounds)
            searches(node, lines)
            sizes(node, lines, chosen.settle_seconds)
        finally:
            node.stop()


if __name__ == "__main__":
    main()
