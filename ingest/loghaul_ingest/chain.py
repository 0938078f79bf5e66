"""What doctor says of the whole chain: topic, shipper, workers, and a probe run through all of it.

    look(settings)     is there a topic, is it safe, who ships, who reads; changes nothing
    probe(settings)    spool -> (shipper -> topic -> worker) -> store -> search -> delete, timed

The probe is a run of its own, `loghaul-doctor_...`, deleted at the end whatever happened; where it
got stuck on its way the finding says how to remove it when it comes out.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from loghaul import shipper
from loghaul.chunk import TEXT
from loghaul.config import Settings
from loghaul.errors import LoghaulError
from loghaul.shipper.desk import Desk
from loghaul.spool import SpoolWriter
from loghaul_ingest.doctor import OK, WARNING, WRONG, Finding
from loghaul_ingest.errors import IngestError
from loghaul_ingest.stores import open_reader, open_writer
from loghaul_ingest.stores.base import Reader

#: How long the probe may take from one place to the next.
PATIENCE_SECONDS = 60.0
EXPERIMENT = "loghaul-doctor"


class Stuck(Exception):
    """The probe got no further; `advice` says what to do."""

    def __init__(self, text: str, advice: str) -> None:
        super().__init__(text)
        self.advice = advice


def look(settings: Settings) -> Iterator[Finding]:
    """Yield what there is to say of topic, shipper and workers; nothing without a transport."""
    if not settings.transport:
        return
    try:
        yield from asyncio.run(_topic(settings))
    except (LoghaulError, IngestError) as error:
        advice = "what is in the spool is kept until the transport works again"
        yield Finding("transport", WRONG, str(error), advice)
    yield _shipper(settings)


async def _topic(settings: Settings) -> list[Finding]:
    from loghaul.transports.address import parse
    from loghaul.transports.kafka import admin
    from loghaul.transports.probe import probe as speaks_kafka
    from loghaul.transports.topic import problems, read
    from loghaul_ingest.topics import LETTERS, letters_of

    address = parse(settings.transport)
    await speaks_kafka(address)
    async with admin(address) as client:
        topic = await read(client, address.topic)
        wrong = problems(topic, address)
        if wrong:
            return [Finding("transport", WRONG, problem, "loghaul setup") for problem in wrong]
        text = f"{address}: {topic.partitions} partitions, {topic.replicas} replicas"
        found = [Finding("transport", OK, text)]
        letters = letters_of(address)
        found += [
            Finding("dead letters", WARNING, problem, "loghaul setup")
            for problem in LETTERS.problems(await read(client, letters.topic), letters)
        ]
        members = sum(
            len(group[5])
            for response in await client.describe_consumer_groups([settings.group])
            for group in response.groups
        )
    if members:
        return [*found, Finding("workers", OK, f"{members} in group {settings.group!r}")]
    text = f"none in group {settings.group!r}: what is shipped waits in the topic"
    return [*found, Finding("workers", WARNING, text, "loghaul ingest, on a server")]


def _shipper(settings: Settings) -> Finding:
    desk = Desk(settings.spool)
    heard = desk.heard()
    if not desk.taken:
        text = "not running; `loghaul run` starts one, `loghaul ship` does by hand"
        return Finding("shipper", OK, text)
    if heard.get("failing"):
        advice = f"it goes on trying; its log is {desk.log}"
        return Finding("shipper", WRONG, f"failing: {heard['failing']}", advice)
    return Finding("shipper", OK, f"running, {heard.get('records', 0):,} records shipped")


def probe(settings: Settings, patience_seconds: float = PATIENCE_SECONDS) -> Iterator[Finding]:
    """Send a probe run through the chain; yield one finding per stage, with its time."""
    run = f"{EXPERIMENT}_{int(time.time())}_{secrets.token_hex(4)}"
    sent = _Probe(settings, run, patience_seconds)
    stages: list[tuple[str, Callable[[], str]]] = [("spool", sent.write)]
    if settings.transport:
        stages.append(("transport", sent.ship))
    stages += [("store", sent.store), ("search", sent.search), ("delete", sent.delete)]
    try:
        for name, stage in stages:
            begun = time.monotonic()
            try:
                text = stage()
            except (Stuck, LoghaulError, IngestError, OSError) as error:
                advice = error.advice if isinstance(error, Stuck) else "see the message"
                left = f"; the run {run}, should it arrive later, goes by `loghaul delete {run}`"
                yield Finding(f"probe {name}", WRONG, str(error), advice + left)
                return
            took = (time.monotonic() - begun) * 1e3
            yield Finding(f"probe {name}", OK, f"{text} ({took:,.1f} ms)")
    finally:
        sent.close()


class _Probe:
    """A run on its way; each stage returns what it found, or raises why it came no further."""

    def __init__(self, settings: Settings, run: str, patience_seconds: float) -> None:
        self._settings, self._run, self._patience = settings, run, patience_seconds
        self._word = f"probe{secrets.token_hex(8)}"
        self._text = f"loghaul doctor: {self._word}\n".encode()
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._directory = Path()
        self._reader: Reader | None = None
        self._stored = False

    def write(self) -> str:
        """Write it as a training process would: into the spool of this node, if somebody ships
        from there or a worker reads it, else into one of its own.
        """
        spool = self._settings.spool
        if self._settings.transport and not shipper.serves(self._settings):
            self._folder = tempfile.TemporaryDirectory(prefix="loghaul-doctor-")
            spool = Path(self._folder.name)
        facts = {
            "run.id": self._run,
            "experiment.name": EXPERIMENT,
            "run.node": self._settings.node,
            "host.name": os.uname().nodename,
            "process.pid": os.getpid(),
            "role": "session",
        }
        writer = SpoolWriter(spool, facts)
        try:
            stream = writer.stream("stdout", TEXT, "azureml-logs/70_driver_log.txt", digest=True)
            if not writer.append(stream, self._text, severity=40):
                raise Stuck(
                    "the spool refuses lines: it is full", "loghaul ingest, or ship, --once"
                )
            writer.end("closed", {"status": "completed"})
        finally:
            writer.close()
        self._directory = writer.directory
        return f"a line written to {spool}"

    def ship(self) -> str:
        """Wait until its shipper has sent it, or send it."""
        if self._folder is not None:
            counts = shipper.once(replace(self._settings, spool=Path(self._folder.name)))
            return f"sent, {counts.records} records acknowledged"
        if not self._until(lambda: not self._directory.exists()):
            failing = Desk(self._settings.spool).heard().get("failing") or "it is behind"
            raise Stuck(f"the shipper has not sent it: {failing}", "see the log of the shipper")
        return "sent by the shipper of this node, acknowledged"

    def store(self) -> str:
        """Wait until all of it is stored."""
        if not self._settings.transport:
            from loghaul_ingest.worker import catch_up

            done = catch_up(self._settings, self._patience)
            if not done:
                raise Stuck(f"it is not stored: {done.reason}", "see HOME/worker/log")
        self._reader = open_reader(self._settings.store)
        if not self._until(self._is_stored):
            asked = f"within {self._patience:.0f} s in {self._reader_name}"
            raise Stuck(f"it did not arrive {asked}", "is a worker running (`loghaul ingest`)?")
        self._stored = True
        return f"stored in {self._reader_name}"

    def search(self) -> str:
        """Find its line, and compare it."""
        from loghaul_ingest.query import parse
        from loghaul_ingest.search import Request, search

        assert self._reader is not None
        page = search(self._reader, Request(parse(self._word), runs=[self._run]))
        found = [hit.event["message"] for hit in page.hits]
        if found != [self._text.decode().rstrip("\n")]:
            raise Stuck(f"a search finds {len(found)} lines instead of the one", "report this")
        return "found by its word, unaltered"

    def delete(self) -> str:
        """Delete it, and look that it is gone."""
        assert self._reader is not None
        asyncio.run(self._delete())
        self._stored = False
        reader = self._reader
        if not self._until(lambda: not reader.streams(self._run)):
            raise Stuck("it is still there after it was deleted", "report this")
        return "deleted"

    def close(self) -> None:
        """Leave nothing behind that can be reached."""
        if self._reader is not None:
            self._reader.close()
        if self._folder is not None:
            self._folder.cleanup()
        if self._stored:
            asyncio.run(self._delete())

    @property
    def _reader_name(self) -> str:
        store = self._settings.store
        return str(getattr(store, "masked", store))

    def _is_stored(self) -> bool:
        assert self._reader is not None
        rows = self._reader.streams(self._run)
        return any(
            row.facts.end is not None and row.stored == row.facts.end.length == len(self._text)
            for row in rows
        )

    def _until(self, done: Callable[[], bool]) -> bool:
        until = time.monotonic() + self._patience
        while not done():
            if time.monotonic() > until:
                return False
            time.sleep(0.02)
        return True

    async def _delete(self) -> None:
        writer = open_writer(self._settings.store)
        try:
            await writer.delete_run(self._run)
        finally:
            await writer.close()
