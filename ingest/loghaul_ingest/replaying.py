"""Dead letters sent through the pipeline once more, by the same worker that would have taken them.

A letter goes when what it holds is stored. What is refused again is a new letter with the reason
of this time, and the old one goes; so nothing is ever in no letter and not stored.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import NamedTuple

from loghaul.chunk import Chunk, Record
from loghaul.config import Settings
from loghaul_ingest.dead_letters import DeadLetters, Letter
from loghaul_ingest.errors import UsageError
from loghaul_ingest.shell import Note, Worker, silent
from loghaul_ingest.sources.letters import LetterSource
from loghaul_ingest.stack import stack
from loghaul_ingest.stores import open_reader, open_writer
from loghaul_ingest.stores.base import Reader


class Replayed(NamedTuple):
    """How many letters went, and how many of these are letters again."""

    sent: int
    again: int
    failing: str | None = None


class Change(NamedTuple):
    """What is told of letters that do not say it themselves.

    run, form   whose record it is, and what format it has
    data        the bytes, where they were mended
    """

    run: str | None = None
    form: str | None = None
    data: bytes | None = None


async def replay(
    settings: Settings,
    dead_letters: DeadLetters,
    letters: Sequence[Letter],
    change: Change | None = None,
    *,
    timeout_seconds: float = 60.0,
    note: Note = silent,
) -> Replayed:
    """Send letters into the store of this home; beside a worker that serves, if there is one.

    Ends when none of them went for so long. Raises UsageError for a letter that holds nothing to
    send, before any is sent, StoreError when the store cannot be opened; one that fails for a time
    is tried until the timeout.
    """
    change = change or Change()
    for letter in letters:
        _check(letter, change)
    writer, reader = open_writer(settings.store), open_reader(settings.store)

    async def item(letter: Letter) -> Record | Chunk:
        data = change.data
        found = letter.item(await dead_letters.data(letter) if data is None else data)
        if isinstance(found, Record):
            return _with_headers(found, change.run, change.form)
        return await asyncio.to_thread(_with_start, found, reader)

    try:
        source = LetterSource(dead_letters, letters, item)
        worker = stack(source, writer, reader, dead_letters, note=note)
        await _work(worker, source, len(letters), timeout_seconds)
        failing = None
        if source.removed < len(letters):
            failing = worker.failing or f"none went for {timeout_seconds:g} s"
        return Replayed(source.removed, worker.core.counts.dead_letters, failing)
    finally:
        await writer.close()
        reader.close()


async def _work(worker: Worker, source: LetterSource, count: int, timeout_seconds: float) -> None:
    until, removed = time.monotonic() + timeout_seconds, 0
    while source.removed < count and time.monotonic() < until:
        if source.removed != removed:
            until, removed = time.monotonic() + timeout_seconds, source.removed
        worker.core.flush()
        await worker.step(0.01)
        if source.done and worker.core.settled and not worker.working:
            await worker.commit()
    await worker.finish(1.0)


def _check(letter: Letter, change: Change) -> None:
    letter.check()
    if "chunk" in letter.about and (change.run or change.form):
        raise UsageError(
            f"dead letter {letter.name} is a block of {letter.place}: its place is fixed"
        )


def _with_start(chunk: Chunk, reader: Reader) -> Chunk:
    """The store may sort streams by their start: a block goes where the others of it are."""
    for row in reader.streams(chunk.key.run):
        if row.facts.stream == chunk.key:
            return chunk._replace(started=row.facts.started)
    return chunk


def _with_headers(record: Record, run: str | None, form: str | None) -> Record:
    """Say what a record is. One that claimed to be a chunk is none any more."""
    dropped = {"schema", "content-type"} if form else set()
    dropped |= {"loghaul-format"} if form else set()
    dropped |= {"loghaul-run"} if run else set()
    headers = [(name, value) for name, value in record.headers if name not in dropped]
    if form:
        headers.append(("loghaul-format", form.encode()))
    if run:
        headers.append(("loghaul-run", run.encode("utf-8", "surrogateescape")))
    return record._replace(headers=headers)
