"""What sealing costs per line, by part, and what it takes to read the events of a block back.

    python tests/bench/bench_seal.py [LINES]

The corpus is 35 % records of an events stream, the rest lines of a text stream; zstd is not in it.
Single thread, best of five; read it beside the words' cost, which is one `translate` per block.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import orjson

sys.path.insert(0, str(Path(__file__).parent))
import corpus

from loghaul.chunk import EVENTS, TEXT, Mark, StreamKey
from loghaul_ingest import census, layouts, lines, recognise
from loghaul_ingest.block import MAX_LINES, Facts
from loghaul_ingest.event import event
from loghaul_ingest.seal import seal
from loghaul_ingest.view import View
from loghaul_ingest.words import index_words, words

Pieces = list[tuple[str, bytes]]


def record(line: bytes) -> bytes:
    """Return a line of the corpus as our writer writes the record of it."""
    stamp, logger, level, message = line.decode().rstrip("\n").split("|", 3)
    head = {
        "@timestamp": f"{stamp[:10]}T{stamp[11:19]}.{stamp[20:]}000Z",
        "log.level": level.lower(),
        "message": message,
        "log.logger": logger,
    }
    tail = {
        "event.severity": 10,
        "process.thread.name": "MainThread",
        "log.origin.file.name": "/opt/conda/lib/python3.11/site-packages/azure/core/pipeline.py",
        "log.origin.file.line": 512,
        "log.origin.function": "on_request",
    }
    extra = {"extra": {"step": len(message), "phase": "train"}} if level == "INFO" else {}
    return orjson.dumps(head | extra | tail) + b"\n"


def pieces(number: int) -> Pieces:
    """Return blocks of MAX_LINES lines: (kind, bytes)."""
    text, events = [], []
    for index, line in enumerate(corpus.lines(number)):
        if line.count(b"|") >= 3 and line[:2] == b"20" and index % 20 < 9:
            events.append(record(line))
        else:
            text.append(line)
    return [
        (kind, b"".join(found[at : at + MAX_LINES]))
        for kind, found in ((TEXT, text), (EVENTS, events))
        for at in range(0, len(found), MAX_LINES)
    ]


def microseconds(job: Callable[[str, bytes], object], blocks: Pieces, number: int) -> float:
    """Return microseconds per line of a job over blocks, best of five."""
    best = float("inf")
    for _ in range(5):
        start = time.process_time()
        for kind, data in blocks:
            job(kind, data)
        best = min(best, time.process_time() - start)
    return best / number * 1e6


def _facts(kind: str) -> Facts:
    return Facts(StreamKey("run", "0" * 32, "stdout"), kind, 1, {"run.id": "run"})


def _seal(kind: str, data: bytes) -> object:
    third = len(data) // 3
    marks = (Mark(third, 10), Mark(third, 20), Mark(len(data) - 2 * third, 30))
    return seal(_facts(kind), 0, data, marks)


def _events(kind: str, data: bytes) -> None:
    facts = _facts(kind)
    block = seal(facts, 0, data, (Mark(len(data), 10),))
    view = View(facts, block.head, data, block.marks)
    for span in view.spans():
        event(view, span)


def main() -> None:
    """Print a table."""
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000
    blocks = pieces(wanted)
    jobs: dict[str, Callable[[str, bytes], object]] = {
        "words": lambda kind, data: index_words(words(data, kind)),
        "line ends": lambda kind, data: lines.count(data, kind),
        "spans": lambda kind, data: lines.spans(data, kind),
        "expression alone (text)": lambda kind, data: layouts.line().findall(data),
        "census: levels, fields, times": lambda kind, data: census.census(
            data, kind, lines.count(data, kind, more=False)
        ),
        "level_lines": lambda kind, data: recognise.level_lines(data, kind),
        "seal, all of it": _seal,
        "seal, then every event as JSON fields": _events,
    }
    print(f"{'microseconds per line':40} {'all':>7} {'text':>7} {'events':>7}")
    counts = {
        kind: sum(lines.count(data, kind, more=False) for one, data in blocks if one == kind)
        for kind in (TEXT, EVENTS)
    }
    for name, job in jobs.items():
        each = {
            kind: microseconds(job, [b for b in blocks if b[0] == kind], counts[kind])
            for kind in (TEXT, EVENTS)
        }
        both = sum(each[kind] * counts[kind] for kind in each) / sum(counts.values())
        print(f"{name:40} {both:7.2f} {each[TEXT]:7.2f} {each[EVENTS]:7.2f}")
    print(f"lines: {counts[TEXT]:,} text, {counts[EVENTS]:,} events")


if __name__ == "__main__":
    main()
