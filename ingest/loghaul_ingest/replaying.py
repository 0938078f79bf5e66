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


def replay(
    settings: Settings,
    letters: Sequence[Letter],
    *,
    run: str | None = None,
    form: str | None = None,
    timeout_seconds: float = 60.0,
    note: Note = silent,
) -> Replayed:
    """Send letters into the store of this home; beside a worker that serves, if there is one.

    run, form   whose record it is and what format it has, where it does not say so itself
    Raises UsageError for a letter that holds nothing to send, StoreError when the store cannot
    be opened; one that fails for a time is tried until the timeout.
    """
    return asyncio.run(_replay(settings, letters, run, form, timeout_seconds, note))


async def _replay(
    settings: Settings,
    letters: Sequence[Letter],
    run: str | None,
    form: str | None,
    timeout_seconds: float,
    note: Note,
) -> Replayed:
    writer, reader = open_writer(settings.store), open_reader(settings.store)
    try:
        dead_letters = DeadLetters(settings.home / "dead-letters")
        items = _items(letters, reader, run, form)
        source = LetterSource(dead_letters, letters, lambda letter: items[letter.name])
        worker = stack(source, writer, reader, dead_letters.directory, note=note)
        done = await _work(worker, source, time.monotonic() + timeout_seconds)
        failing = None if done else worker.failing or "there was not enough time"
        return Replayed(source.removed, worker.core.counts.dead_letters, failing)
    finally:
        await writer.close()
        reader.close()


async def _work(worker: Worker, source: LetterSource, until: float) -> bool:
    while not (source.done and worker.core.settled and not worker.working):
        if time.monotonic() > until:
            break
        worker.core.flush()
        await worker.step(0.01)
    done = source.done and worker.core.settled
    await worker.finish(1.0)
    return done


def _items(
    letters: Sequence[Letter], reader: Reader, run: str | None, form: str | None
) -> dict[str, Record | Chunk]:
    """Return what is sent of each letter; all are looked at before the first is sent."""
    found: dict[str, Record | Chunk] = {}
    for letter in letters:
        item = letter.item()
        if isinstance(item, Chunk):
            if run or form:
                raise UsageError(
                    f"dead letter {letter.name} is a block of {item.key}: its place is fixed"
                )
            found[letter.name] = _with_start(item, reader)
        else:
            found[letter.name] = _with_headers(item, run, form)
    return found


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
