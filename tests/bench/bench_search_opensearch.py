"""Searches of 5 M lines in OpenSearch, with and without ingest going on, against one document per
line in the same node, in one run.

    python tests/bench/bench_search_opensearch.py [--documents 2000000] [--rate 20000] [--keep DIR]

Runs of 500,000 lines lie in the node twice: as blocks, and as documents of a lean mapping (of the
first `--documents` lines alone, where all of them would take too long). Told are
milliseconds to a first page of 100, newest first, median of seven, warm: for blocks reading,
unpacking and deciding included, for documents the answer with its lines. `ingest` is a worker (for
documents a feeder of ready-made bodies) that takes in so many lines per second meanwhile. Documents
know no regular expression over a line. Read the ratios: the machine is shared.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import corpus
from bench_opensearch import LINE_MAPPING, Node, line_bodies, median
from bench_search import RUN_LINES, _build_run, _high_word, _words

from loghaul_ingest.query import parse
from loghaul_ingest.search import Request, count, search
from loghaul_ingest.stores import open_reader

RUN = "run-000"
SETTLE_SECONDS = 30.0


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--lines", type=int, default=5_000_000)
    options.add_argument("--documents", type=int, help="so many of the lines also as documents")
    options.add_argument("--rate", type=int, default=20_000, help="lines per second meanwhile")
    options.add_argument("--opensearch", default="3")
    options.add_argument("--heap", default="4g")
    options.add_argument("--keep", type=Path, help="folder of the node, reused when it is there")
    chosen = options.parse_args()
    forms = searches(*_words(1_000_000), _high_word(1_000_000))
    with tempfile.TemporaryDirectory(prefix="bench-search-opensearch-") as scratch:
        name = str(chosen.keep or scratch)
        built = Path(name) / "built"
        node = Node(Path(name), chosen.opensearch, chosen.heap)
        try:
            dsn = f"opensearch://{node.place}/blocks"
            if not built.exists():
                build(node, dsn, chosen.lines, chosen.documents or chosen.lines)
                built.touch()
            table = {"idle": measured(node, dsn, forms)}
            with fed(["feed-blocks", name, dsn, str(chosen.rate)]):
                table["ingest, blocks"] = measured(node, dsn, forms, documents=False)
            with fed(["feed-lines", node.place, "lines", str(chosen.rate)]):
                table["ingest, lines"] = measured(node, dsn, forms, blocks=False)
            report(table, forms, chosen.lines, chosen.rate)
            counts(dsn, forms)
        finally:
            node.stop(forget=chosen.keep is None)


def searches(
    rare: str, medium: str, common: str, phrase: str, high_word: str
) -> dict[str, tuple[str, Any]]:
    """Return the name of a search -> our query, and that of documents."""
    word = {"match": {"message": common}}
    high = {"terms": {"level": ["warning", "error"]}}
    return {
        "absent word": ("nosuchword", {"match": {"message": "nosuchword"}}),
        "rare word": (rare, {"match": {"message": rare}}),
        "medium word": (medium, {"match": {"message": medium}}),
        "common word": (common, word),
        "phrase": (phrase, {"match_phrase": {"message": phrase.strip('"')}}),
        "level + word": (
            f"level:>=warning {high_word}",
            {"bool": {"filter": [high, {"match": {"message": high_word}}]}},
        ),
        "regex with a literal": (rf"/(?i)\b{common}\b.*[a-f]\d{{3}}/", None),
    }


def build(node: Node, dsn: str, lines: int, documents: int) -> None:
    settings = {"number_of_shards": 1, "number_of_replicas": 0}
    node.ask("PUT", "/lines", {"settings": settings, "mappings": LINE_MAPPING})
    source, spent = corpus.lines(lines, 1), {"blocks": 0.0, "lines": 0.0}
    for number in range(-(-lines // RUN_LINES)):
        part = list(islice(source, RUN_LINES))
        began = time.perf_counter()
        asyncio.run(_build_run(dsn, number, iter(part), io.BytesIO()))
        spent["blocks"] += time.perf_counter() - began
        if number * RUN_LINES < documents:
            bodies = line_bodies(part, f"run-{number:03d}", number * RUN_LINES)
            began = time.perf_counter()
            node.feed(bodies, "/lines/_bulk?filter_path=took,errors")
            spent["lines"] += time.perf_counter() - began
    node.ask("POST", "/_refresh")
    until = time.monotonic() + SETTLE_SECONDS
    while time.monotonic() < until and merging(node):
        time.sleep(1)
    sizes = f"{lines:,} lines in blocks {spent['blocks']:.0f} s, {documents:,} as documents "
    print(f"built: {sizes}{spent['lines']:.0f} s", flush=True)


def merging(node: Node) -> bool:
    """Whether the node still merges what was built."""
    merges = node.ask("GET", "/_stats/merge")["_all"]["total"]["merges"]
    return bool(merges["current"])


def measured(
    node: Node, dsn: str, forms: dict[str, Any], blocks: bool = True, documents: bool = True
) -> dict[tuple[str, str, str], float]:
    """Return (engine, search, where) -> milliseconds."""
    found = {}
    reader = open_reader(dsn)
    for name, (form, query) in forms.items():
        for where, runs in (("all", None), ("one run", [RUN])):
            if blocks:
                request = Request(parse(form), runs)
                found["blocks", name, where] = median(lambda r=request: search(reader, r))
            if documents and query:
                body = asked(query, runs)
                found["lines", name, where] = median(
                    lambda b=body: node.ask("POST", "/lines/_search", b)
                )
    reader.close()
    return found


def asked(query: Any, runs: list[str] | None) -> dict[str, Any]:
    """Return the body of a search of documents."""
    if runs:
        query = {"bool": {"filter": [{"terms": {"run": runs}}, query]}}
    return {"size": 100, "query": query, "sort": [{"@timestamp": "desc"}]}


def report(table: dict, forms: dict, lines: int, rate: int) -> None:
    print(
        f"{lines:,} lines; ms to the first page; blocks / documents, with {rate:,} lines/s beside"
    )
    print(f"{'':22}{'':10}{'blocks':>9}{'lines':>9}{'ratio':>8}{'':4}{'blocks':>9}{'lines':>9}")
    for name in forms:
        for where in ("all", "one run"):
            ours, theirs = (table["idle"].get((one, name, where)) for one in ("blocks", "lines"))
            busy = table["ingest, blocks"][("blocks", name, where)]
            other = table["ingest, lines"].get(("lines", name, where))
            ratio = f"{ours / theirs:7.2f}x" if theirs else " " * 8
            shown = [f"{one:9.1f}" if one else f"{'-':>9}" for one in (ours, theirs, busy, other)]
            print(f"{name:22}{where:10}{shown[0]}{shown[1]}{ratio}    {shown[2]}{shown[3]}")


def counts(dsn: str, forms: dict) -> None:
    """Tell what exact counts take, over everything."""
    reader = open_reader(dsn)
    for name, (form, _) in forms.items():
        began = time.perf_counter()
        total = count(reader, parse(form)).total
        print(f"count {name:22}{1e3 * (time.perf_counter() - began):10.0f} ms {total:12,}  {form}")
    reader.close()


@contextmanager
def fed(arguments: list[str]) -> Iterator[None]:
    """Let lines come in meanwhile, from a process of its own."""
    process = subprocess.Popen([sys.executable, __file__, *arguments])
    try:
        time.sleep(4)  # until it is under way
        yield
        assert process.poll() is None, "the feeder ended"
    finally:
        process.terminate()
        process.wait()


def paced(rate: int) -> Iterator[list[bytes]]:
    """Yield the lines of a tenth of a second, ten times a second."""
    source, due = corpus.lines(10**9, 7), time.monotonic()
    while True:
        yield list(islice(source, rate // 10))
        due += 0.1
        time.sleep(max(0.0, due - time.monotonic()))


def feed_blocks(home: str, dsn: str, rate: str) -> None:
    """A run that prints, as its pump spools it, and a worker."""
    from loghaul import config
    from loghaul.spool import SpoolWriter

    settings = config.load(home=f"{home}/feeder", store=dsn)
    settings.home.mkdir(exist_ok=True)
    environment = {**os.environ, "LOGHAUL_HOME": str(settings.home), "LOGHAUL_STORE": dsn}
    command = [sys.executable, "-m", "loghaul_ingest", "ingest"]
    with subprocess.Popen(command, env=environment) as worker:
        try:
            writer = SpoolWriter(settings.spool, {"run.id": "feeding", "role": "process"})
            stream = writer.stream("stdout", "text", "azureml-logs/70_driver_log.txt")
            for part in paced(int(rate)):
                data = b"".join(part)
                for at in range(0, len(data), 4096):
                    assert writer.append(stream, data[at : at + 4096])
        finally:
            worker.terminate()


def feed_lines(place: str, index: str, rate: str) -> None:
    """One document per line, a bulk request per second."""
    import http.client

    connection, lines, first = http.client.HTTPConnection(place), [], 10**7
    for part in paced(int(rate)):
        lines += part
        if len(lines) >= int(rate):
            for body in line_bodies(lines, "feeding", first):
                headers = {"content-type": "application/json"}
                connection.request("POST", f"/{index}/_bulk?filter_path=errors", body, headers)
                assert b"false" in connection.getresponse().read()
            first, lines = first + len(lines), []


if __name__ == "__main__":
    import signal

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if sys.argv[1:2] == ["feed-blocks"]:
        feed_blocks(*sys.argv[2:])
    elif sys.argv[1:2] == ["feed-lines"]:
        feed_lines(*sys.argv[2:])
    else:
        main()
