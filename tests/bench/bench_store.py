"""What the SQLite store costs: lines per second, CPU, bytes on disk, time to propose and to read.

    python tests/bench/bench_store.py [--lines 1000000] [--folder DIR] [--slow-streams 0]

Writes ready-made blocks, so that sealing is not in the figures. Read them as ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import corpus

from loghaul.chunk import End, Mark, StreamKey
from loghaul_ingest.block import MAX_LINES, Block, Facts
from loghaul_ingest.query.proposal import EVERY, Both, Proposal, Word
from loghaul_ingest.seal import seal
from loghaul_ingest.stores import open_reader, open_writer
from loghaul_ingest.stores.base import Batch
from loghaul_ingest.words import words

CORPUS_LINES = 1_000_000
BATCH_BLOCKS = 64
LINES_PER_MARK = 8
STARTED = 1_763_884_800_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=CORPUS_LINES)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--slow-streams", type=int, default=0, help="streams with a line a second")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="bench-store-"))
    try:
        asyncio.run(measure(folder, options.lines, options.slow_streams))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def measure(folder: Path, lines: int, slow: int) -> None:
    streams = [facts(number) for number in range(slow or 8)]
    per_block = 1 if slow else MAX_LINES
    writer = open_writer(f"sqlite://{folder}")
    await writer.write(Batch((), streams))
    raw, wall, cpu = 0, 0.0, 0.0
    for batch in batches(lines, streams, per_block):
        raw += sum(block.head.length for block in batch)
        before = time.perf_counter(), time.process_time()
        await writer.write(Batch(batch))
        wall += time.perf_counter() - before[0]
        cpu += time.process_time() - before[1]
    print(f"write      {lines / wall:12,.0f} lines/s   {cpu / lines * 1e6:6.2f} CPU s per M lines")
    await writer.close()
    print(f"stored     {size(folder) / raw:12.3f} bytes per raw byte ({raw / lines:.1f} per line)")
    read(folder, streams[0].stream)
    await compact(folder, raw, lines)
    read(folder, streams[0].stream)


async def compact(folder: Path, raw: int, lines: int) -> None:
    writer, reader = open_writer(f"sqlite://{folder}"), open_reader(f"sqlite://{folder}")
    rows = reader.streams("bench")
    ended = [replace(row.facts, end=End(row.stored, STARTED, "exit", None, {})) for row in rows]
    await writer.write(Batch((), ended))
    wall, cpu = time.perf_counter(), time.process_time()
    vanished = 0
    for row in rows:
        vanished += await writer.compact(row.facts.stream)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    await writer.close()
    reader.close()
    print(
        f"compacted  {vanished:12,} blocks fewer   {cpu / lines * 1e6:6.2f} CPU s per M lines   "
        f"{wall:.1f} s"
    )
    print(f"stored     {size(folder) / raw:12.3f} bytes per raw byte")


def read(folder: Path, stream: StreamKey) -> None:
    reader = open_reader(f"sqlite://{folder}")
    common, rare = Word(b"loss"), Word(rare_word())
    times: list[tuple[str, Proposal, int | None]] = [
        ("absent word", Word(b"absentword"), None),
        ("rare word, all", rare, None),
        ("common word, newest 100 blocks", common, 100),
        ("common word, all", common, None),
        ("two common words, newest 100", Both((common, Word(b"epoch"))), 100),
        ("every block, newest 100", EVERY, 100),
    ]
    for name, proposal, limit in times:
        found, best = 0, 1e9
        for _ in range(5):
            start = time.perf_counter()
            found = sum(1 for _ in islice(reader.candidates(proposal), limit))
            best = min(best, time.perf_counter() - start)
        print(f"propose    {best * 1e3:12.2f} ms   {found:6} blocks   {name}")
    start = time.perf_counter()
    counted = reader.tally(None, None, None, 60_000_000)
    events = sum(sum(tally.counts.values()) for tally in counted.values())
    print(f"tally      {(time.perf_counter() - start) * 1e3:12.2f} ms   {events} events")
    start, count = time.perf_counter(), 0
    for stored in reader.load([head.key for head in reader.heads(stream)]):
        count += stored.data.count(b"\n")
    print(f"read       {count / (time.perf_counter() - start):12,.0f} lines/s of a file in order")
    reader.close()


def batches(lines: int, streams: list[Facts], per_block: int) -> Iterator[list[Block]]:
    """Yield batches of blocks; beyond CORPUS_LINES the corpus comes again, later."""
    content = list(corpus.lines(min(lines, CORPUS_LINES)))
    offsets, batch, clock = [0] * len(streams), [], STARTED
    step = 1_000_000 // len(streams) if per_block == 1 else 250
    for number, start in enumerate(range(0, lines, per_block)):
        first = start % len(content)
        part = content[first : min(first + per_block, first + lines - start)]
        marks = []
        for index in range(0, len(part), LINES_PER_MARK):
            group = part[index : index + LINES_PER_MARK]
            clock += step * len(group)
            marks.append(Mark(sum(map(len, group)), clock))
        which = number % len(streams)
        data = b"".join(part)
        batch.append(seal(streams[which], offsets[which], data, marks))
        offsets[which] += len(data)
        if len(batch) >= (BATCH_BLOCKS if per_block > 1 else len(streams)):
            yield batch
            batch = []
    if batch:
        yield batch


def rare_word() -> bytes:
    """Return a word that is in few lines of the corpus."""
    line = b"".join(islice(corpus.lines(2000), 1000, 1100))
    return max(words(line, "text").split(), key=len)


def facts(number: int) -> Facts:
    stream = StreamKey("bench", f"{number:032x}", "stdout")
    common = {"run.id": "bench", "role": "process", "run.rank": number, "host.name": "node"}
    return Facts(stream, "text", STARTED, common)


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    main()
