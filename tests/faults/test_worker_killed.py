"""kill -9 of the worker process at random moments: nothing is lost, nothing is stored twice."""

import os
import random
import subprocess
import sys
import threading
import time

import pytest

from loghaul import config
from loghaul.spool import SpoolWriter
from loghaul_ingest import lines, worker
from loghaul_ingest.stores import open_reader


class Capture:
    """A run that goes on printing while workers die: two outputs and a stream of records."""

    KINDS = (("stdout", "text"), ("stderr", "text"), ("events", "events"))

    def __init__(self, spool, seed):
        self.random = random.Random(seed)
        self.run = f"run{seed}"
        self.writer = SpoolWriter(spool, {"run.id": self.run, "role": "process"})
        self.numbers = [self.writer.stream(name, kind, f"{name}.txt") for name, kind in self.KINDS]
        self.bytes = [bytearray() for _ in self.KINDS]
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._print)
        self._thread.start()

    def _print(self):
        count = 0
        while not self._stopping.is_set():
            for _ in range(self.random.randrange(1, 200)):
                self._append(count)
                count += 1
            time.sleep(0.002)

    def _append(self, count):
        which = self.random.randrange(3)
        data = b"%d %s" % (count, b"word " * self.random.randrange(40))
        ends = (b"\n", b"\n", b"\r", b"", b"\r\n") if which < 2 else (b"\n",)
        data += self.random.choice(ends)
        assert self.writer.append(self.numbers[which], data)
        self.bytes[which] += data

    def end(self):
        self._stopping.set()
        self._thread.join()
        self.writer.end("exit", {"exit_code": 0})
        self.writer.close()


def start_worker(home):
    return subprocess.Popen(
        [sys.executable, "-m", "loghaul_ingest", "ingest"],
        env={**os.environ, "LOGHAUL_HOME": str(home)},
        stdin=subprocess.DEVNULL,
    )


def stored(reader, row):
    """The bytes by offset; also that no byte is there twice."""
    key = row.facts.stream
    heads = list(reader.heads(key))
    assert sum(head.length for head in heads) == row.stored, "a byte is stored twice"
    return b"".join(block.data for block in reader.load([head.key for head in heads]))


def kill_rounds(tmp_path, rounds, seed):
    settings = config.load(home=tmp_path / "home")
    settings.home.mkdir()
    source = random.Random(seed)
    captures = [Capture(settings.spool, seed * 10 + number) for number in range(2)]
    try:
        for _ in range(rounds):
            process = start_worker(settings.home)
            time.sleep(0.25 + source.random() * 0.6)
            process.kill()
            process.wait()
    finally:
        for capture in captures:
            capture.end()
    worker.once(settings)
    reader = open_reader(settings.store)
    for capture in captures:
        rows = {row.facts.stream.stream: row for row in reader.streams(capture.run)}
        for (name, kind), sent in zip(Capture.KINDS, capture.bytes, strict=True):
            assert bytes(sent) == stored(reader, rows[name])
            assert rows[name].holes == ()
            assert rows[name].facts.end.length == len(sent)
            if kind == "events":
                assert rows[name].lines == lines.count(bytes(sent), kind, more=False)
    reader.close()
    assert not os.listdir(settings.spool)


def test_a_killed_worker_loses_nothing_and_repeats_nothing(tmp_path):
    kill_rounds(tmp_path, 10, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(2, 12))
def test_a_worker_killed_a_hundred_times_loses_nothing_and_repeats_nothing(tmp_path, seed):
    kill_rounds(tmp_path, 10, seed)
