"""A spool with writers, and what a topic in memory has of them."""

import asyncio
import signal

import pytest

from clock import Clock
from loghaul import config
from loghaul.chunk import decode
from loghaul.shipper.node import Shipper
from loghaul.shipper.session import Counts, Session
from loghaul.spool import Limits, SpoolWriter
from loghaul.spool.rota import Rota
from loghaul.transports.memory import MemoryTopic


class Bench:
    """A topic and a spool; `run` ships by hand, a clock step per round."""

    def __init__(self, root):
        self.root, self.topic, self.clock = root, MemoryTopic(3), Clock()
        self.counts = Counts()
        self.writers = []
        self.released = []

    def capture(self, run="run", parts=(), ended=True, name="stdout", **keywords):
        keywords.setdefault("limits", Limits(reserve_bytes=0))
        writer = SpoolWriter(self.root, {"run.id": run}, **keywords)
        stream = writer.stream(name, "text", "out.txt")
        for part in parts:
            assert writer.append(stream, part)
        if ended:
            writer.end("exit", {"exit_code": 0})
            writer.close()
        self.writers.append(writer)
        return writer

    def run(self, rounds=30, max_open=24, each=lambda session: None):
        """One session: ships for so many rounds, or until it fails."""

        async def ship():
            transport = self.topic.connect()
            rota = Rota(self.root, max_open=max_open, clock=self.clock)
            await transport.open()
            session = Session(transport, rota, self.counts, clock=self.clock)
            try:
                for _ in range(rounds):
                    await session.step(0.0)
                    self.clock.now += 0.2
                    each(session)
            finally:
                await session.close()
                rota.close()
                await transport.close()

        asyncio.run(ship())

    def chunks(self):
        """Chunks by partition, as they lie there."""
        return [[decode(r.value, r.headers) for r in row] for row in self.topic.records]

    def streams(self):
        """What the chunks make of each stream: run/name -> bytes, where all of it is there."""
        found, ends = {}, {}
        for row in self.chunks():
            for chunk in row:
                whole = found.setdefault(chunk.key, bytearray())
                assert chunk.offset <= len(whole), "a later chunk is there before an earlier one"
                whole[chunk.offset : chunk.offset + len(chunk.data)] = chunk.data
                if chunk.end:
                    ends[chunk.key] = chunk.end.length
        assert all(length == len(found[key]) for key, length in ends.items())
        return {f"{key.run}/{key.stream}": bytes(whole) for key, whole in found.items()}

    def left(self):
        """Folders of writers in the spool."""
        return [path for path in self.root.iterdir() if len(path.name) == 32]


@pytest.fixture
def bench(tmp_path):
    bench = Bench(tmp_path / "spool")
    bench.root.mkdir()
    yield bench
    for writer in bench.writers:
        writer.close()


@pytest.fixture
def shipper(bench, tmp_path):
    """A function: a shipper process's loop in this one, for the topic of the bench."""
    before = [(number, signal.getsignal(number)) for number in (signal.SIGTERM, signal.SIGINT)]

    def make(transport="kafka://memory/topic", **options):
        settings = config.load(home=tmp_path, spool=bench.root, transport=transport)
        return Shipper(settings, bench.topic.connect, **options)

    yield make
    for number, handler in before:
        signal.signal(number, handler)
