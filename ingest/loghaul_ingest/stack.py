"""The worker's stack, built in one function: the only place that knows all of its layers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from loghaul_ingest.block import Block, Facts
from loghaul_ingest.dead_letters import DeadLetters, DirectoryLetters
from loghaul_ingest.growing import Cut, Limits
from loghaul_ingest.seal import seal
from loghaul_ingest.shell import Note, Pace, Worker, silent
from loghaul_ingest.sources.base import Source
from loghaul_ingest.stores.base import Reader, Writer
from loghaul_ingest.taps import Tap
from loghaul_ingest.watch import Watch


def stack(
    source: Source,
    writer: Writer,
    reader: Reader | None,
    dead_letters: DeadLetters | Path,
    *,
    taps: Sequence[Tap] = (),
    limits: Limits | None = None,
    pace: Pace | None = None,
    note: Note = silent,
    patience_seconds: float = 0.0,
    watch: Watch | None = None,
) -> Worker:
    """Return a worker: source -> decode -> taps -> blocks -> writer -> commit.

    reader             of the same store; without it a line that a restart cut in two is two
    dead_letters       where what no store takes is kept; a path: that directory
    patience_seconds   how long a hole of an ended stream is waited for: 0 where the source keeps
                       the order
    watch              measures source and writer, and is told what is reported
    """
    if watch is not None:
        source, writer, note = watch.source(source), watch.writer(writer), watch.note(note)
        taps = (*taps, watch.tap)
    if isinstance(dead_letters, Path):
        dead_letters = DirectoryLetters(dead_letters)
    worker = Worker(
        source,
        writer,
        seal_cut,
        dead_letters,
        reader=reader,
        taps=taps,
        limits=limits,
        pace=pace,
        note=note,
        patience_seconds=patience_seconds,
    )
    if watch is not None:
        watch.attach(worker)
    return worker


def seal_cut(facts: Facts, cut: Cut, position: int | None) -> Block:
    """Seal the bytes of one block."""
    head = cut.head
    return seal(
        facts,
        cut.offset,
        cut.data,
        cut.marks,
        head.data,
        position,
        cut.ended,
        head_length=head.length,
        head_time=head.time_us if head.length else None,
    )
