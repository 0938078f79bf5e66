"""How long searches take in SQLite, and exact counts against `zstd -dc | grep` of the same bytes.

    python tests/bench/bench_search.py            # 1 M lines
    python tests/bench/bench_search.py --lines 5000000 --keep /tmp/searched

The corpus is `corpus.lines`, in runs of 500,000 lines. Milliseconds, median of five, warm.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from itertools import islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import corpus
import zstandard

from loghaul.chunk import End, Mark, StreamKey
from loghaul_ingest.block import MAX_BYTES, MAX_LINES, Facts
from loghaul_ingest.levels import severity
from loghaul_ingest.query import parse
from loghaul_ingest.recognise import level_lines
from loghaul_ingest.seal import seal
from loghaul_ingest.search import Request, count, facets, histogram, search
from loghaul_ingest.stores import open_reader, open_writer
from loghaul_ingest.stores.base import Batch

START = 1_764_000_000_000_000
RUN_LINES = 500_000
_CAT = (
    "import sys, zstandard;"
    "zstandard.ZstdDecompressor().copy_stream(sys.stdin.buffer, sys.stdout.buffer)"
)
SEARCHES = (
    ("absent word", "nosuchwordanywhere"),
    ("rare word", "RARE"),
    ("medium word", "MEDIUM"),
    ("common word", "COMMON"),
    ("phrase", "PHRASE"),
    ("level + word", "level:>=warning HIGH"),
    ("prefix", "PREFIX*"),
    ("regex with a literal", r"/(?i)\bCOMMON\b.*[a-f]\d{3}/"),
    ("regex without", r"/[a-f]{3}\d{4}/"),
    ("substring", "*ubstrin*"),
    ("field", "logger:urllib3.connectionpool"),
    ("every line", "*"),
)


def main() -> None:
    """Build or reuse the store, then measure."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--lines", type=int, default=1_000_000)
    options.add_argument("--keep", type=Path, help="folder of the store, reused when it is there")
    options.add_argument("--words", nargs=4, metavar="WORD", help="rare medium common phrase")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = chosen.keep or Path(scratch)
        if not (folder / "raw.zst").exists():
            _build(folder, chosen.lines)
        _measure(folder, chosen.lines, chosen.words or _words(chosen.lines))


def _build(folder: Path, total: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    source = corpus.lines(total, 1)
    dsn = f"sqlite://{folder.resolve()}/store"
    with zstandard.open(folder / "raw.part", "wb") as raw:
        for number in range(0, total, RUN_LINES):
            asyncio.run(_build_run(dsn, number // RUN_LINES, islice(source, RUN_LINES), raw))
    (folder / "raw.part").rename(folder / "raw.zst")
    print(f"built in {time.perf_counter() - started:.0f} s")


async def _build_run(dsn, number, source, raw) -> None:
    key = StreamKey(f"run-{number:03d}", f"{number:032x}", "stdout")
    common = {"run.id": key.run, "run.node": "node", "log.file.path": "70_driver_log.txt"}
    facts, blocks, offset = Facts(key, "text", START, common), [], 0
    writer = open_writer(dsn)
    begin = START + number * RUN_LINES * 1000
    for data, lines in _cut(source):
        raw.write(data)
        blocks.append(seal(facts, offset, data, [Mark(len(data), begin + lines * 1000)]))
        offset += len(data)
        if len(blocks) == 64:
            await writer.write(Batch(blocks, (facts,)))
            blocks = []
    ended = Facts(key, "text", START, common, End(offset, begin, "exit", None, {}))
    await writer.write(Batch(blocks, (ended,)))
    await writer.close()


def _cut(source):
    part, size, done = [], 0, 0
    for line in source:
        if part and (len(part) == MAX_LINES or size + len(line) > MAX_BYTES):
            yield b"".join(part), done
            part, size = [], 0
        part.append(line)
        size += len(line)
        done += 1
    if part:
        yield b"".join(part), done


def _words(total: int) -> list[str]:
    """Words of the corpus that are rare, medium and common, and a phrase of two."""
    sample = list(islice(corpus.lines(total, 1), 100_000))
    seen: Counter[bytes] = Counter()
    for line in sample:
        seen.update(set(re.findall(rb"[a-z0-9_]+", line.lower())))
    ranked = [
        (number / len(sample), word.decode())
        for word, number in seen.items()
        if len(word) > 3 and word.isalpha()
    ]

    def nearest(share: float) -> str:
        return min(ranked, key=lambda one: (abs(one[0] - share) / share, one[1]))[1]

    common = nearest(0.3)
    after: Counter[bytes] = Counter()
    for line in sample:
        found = re.search(rb"\b" + common.encode() + rb"\W+([a-z]{3,})", line.lower())
        after.update([found[1]] if found else [])
    return [
        nearest(0.0003),
        nearest(0.02),
        common,
        f'"{common} {min(after.most_common(8), key=lambda one: one[1])[0].decode()}"',
    ]


def _high_word(total: int) -> str:
    """Return a word that lines at warning and above say often, and others too."""
    sample = b"".join(islice(corpus.lines(total, 1), 100_000))
    seen: Counter[bytes] = Counter(re.findall(rb"(?<![\w.:])[a-z]{4,}(?![\w.:])", sample))
    high: Counter[bytes] = Counter()
    for start, end, level in level_lines(sample, "text"):
        if severity(level) >= 30:
            high.update(re.findall(rb"(?<![\w.:])[a-z]{4,}(?![\w.:])", sample[start:end]))
    return max(high, key=lambda word: (min(high[word], seen[word] - high[word]), word)).decode()


def _measure(folder: Path, total: int, words: list[str]) -> None:
    reader = open_reader(f"sqlite://{folder.resolve()}/store")
    rare, medium, common, phrase = words
    names = {"RARE": rare, "MEDIUM": medium, "COMMON": common, "PHRASE": phrase}
    names["PREFIX"] = common[:-1]
    names["HIGH"] = _high_word(total)
    print(f"{total:,} lines; {words}")
    print(f"{'':24}{'first page':>12}{'in one run':>12}{'count':>10}{'':4}hits")
    for name, form in SEARCHES:
        for placeholder, word in names.items():
            form = form.replace(placeholder, word)
        query = parse(form)
        page = _median(lambda query=query: search(reader, Request(query)))
        one = _median(lambda query=query: search(reader, Request(query, ["run-000"])))
        begun = time.perf_counter()
        found = count(reader, query).total
        counted = (time.perf_counter() - begun) * 1000
        print(f"{name:24}{page:12.1f}{one:12.1f}{counted:10.0f}    {found:,}  {form}")
    one = _median(lambda: histogram(reader, parse(common), 60_000_000), 3)
    print(f"histogram of a common word   {one:.0f} ms")
    one = _median(lambda: facets(reader, parse(common), ["level", "run"]), 3)
    print(f"facets of a common word      {one:.0f} ms")
    _against_grep(reader, folder / "raw.zst", common)
    reader.close()


def _against_grep(reader, raw: Path, word: str) -> None:
    """Count with `grep -iwc` behind `zstd -dc`; without that program, behind python-zstandard."""
    unpack = f"zstd -dc {raw}"
    if shutil.which("zstd") is None:
        unpack = f"{sys.executable} -c {shlex.quote(_CAT)} < {raw}"
    ours, theirs = [], []
    for _ in range(5):
        # In turn, so that both see the same machine.
        ours.append(_median(lambda: count(reader, parse(word)), 1))
        command = f"{unpack} | LC_ALL=C grep -aiwc {word}"
        theirs.append(_median(lambda c=command: _run(c), 1))
    first, second = statistics.median(ours), statistics.median(theirs)
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    print(
        f"count of a common word: {first:.0f} ms, zstd -dc | grep -iwc {second:.0f} ms: "
        f"{ratio:.2f}x (median of the pairs)"
    )


def _run(command: str) -> None:
    subprocess.run(command, shell=True, capture_output=True, check=True)


def _median(work: Callable[[], object], times: int = 5) -> float:
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        work()
        taken.append((time.perf_counter() - begun) * 1000)
    return statistics.median(taken)


if __name__ == "__main__":
    main()
