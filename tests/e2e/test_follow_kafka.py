"""`logs -f` through a real broker, from a home that is not the writers': sooner than the store."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from zlib import crc32

import pytest

from ledger import Ledger
from loghaul import config, shipper
from loghaul.chunk import TEXT, StreamKey, record_key
from loghaul.spool import SpoolWriter
from loghaul.transports.address import parse
from loghaul_ingest import group
from loghaul_ingest.feeds.connection import Connection
from loghaul_ingest.feeds.course import candidates
from loghaul_ingest.stores import open_reader
from loghaul_ingest.topics import Plan, set_up

LOGHAUL = str(Path(sys.executable).with_name("loghaul"))


class Follower:
    """`loghaul logs RUN -f` with a home of its own; `out` and `err` are what it said so far."""

    def __init__(self, folder, settings, run, *options, **variables):
        environment = {**os.environ, **settings.environment(), "LOGHAUL_HOME": str(folder)}
        # An empty spool: nothing is taken from that of the writers.
        environment["LOGHAUL_SPOOL"] = str(folder / "spool")
        self.process = subprocess.Popen(
            [LOGHAUL, "logs", run, "-f", *options],
            env={**environment, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.out, self.err = bytearray(), bytearray()
        self._threads = [
            threading.Thread(target=_drain, args=pair)
            for pair in ((self.process.stdout, self.out), (self.process.stderr, self.err))
        ]
        for thread in self._threads:
            thread.start()

    def shows(self, wanted, seconds=20):
        """Wait until it has printed so much."""
        until = time.monotonic() + seconds
        while len(self.out) < len(wanted) and self.process.poll() is None:
            assert time.monotonic() < until, (bytes(self.out), bytes(self.err))
            time.sleep(0.01)
        assert bytes(self.out) == bytes(wanted), bytes(self.err)

    def ends(self, seconds=20):
        """Wait for its end; return the exit code."""
        code = self.process.wait(seconds)
        for thread in self._threads:
            thread.join(seconds)
            assert not thread.is_alive(), "something else holds its output open"
        return code

    def close(self):
        self.process.kill()
        self.ends()
        self.process.stdout.close()
        self.process.stderr.close()


def _drain(pipe, into):
    while data := pipe.read1(65536):
        into += data


class Voice:
    """A writer of run r1 with an output; `say` ships what it says, and returns all of it so far."""

    def __init__(self, settings, rank=0):
        facts = {"run.id": "r1", "run.node": "node-a", "run.rank": rank, "role": "supervisor"}
        self.settings, self.all = settings, b""
        self.writer = SpoolWriter(settings.spool, facts)
        path = "azureml-logs/70_driver_log.txt"
        self._out = self.writer.stream("stdout", TEXT, path, "stdout")
        self.key = StreamKey("r1", self.writer.id, "stdout")

    def say(self, text, end=False):
        data = text.encode()
        self.writer.append(self._out, data)
        self.all += data
        if end:
            self.writer.end("exit", {"exit_code": 0, "status": "completed"})
        shipper.once(self.settings)
        return self.all


@pytest.fixture
def settings(tmp_path, kafka):
    return made(tmp_path, kafka.dsn())


def made(tmp_path, dsn, store=None):
    found = config.load(
        home=tmp_path / "home",
        transport=dsn,
        group=dsn.rpartition("/")[2],
        store=store or str(tmp_path / "store"),
        background=True,  # of `run`: a shipper
    )
    found.spool.mkdir(parents=True)
    return found


@pytest.fixture
def voice(settings):
    voices = []

    def speak(rank=0, of=settings):
        voices.append(Voice(of, rank))
        return voices[-1]

    yield speak
    for one in voices:
        one.writer.close()


@pytest.fixture
def follow(tmp_path):
    followers = []

    def start(settings, *options, **variables):
        folder = tmp_path / f"elsewhere-{len(followers)}"
        folder.mkdir()
        followers.append(Follower(folder, settings, "r1", *options, **variables))
        return followers[-1]

    yield start
    for one in followers:
        one.close()


def test_lines_come_though_no_worker_works_at_all(settings, voice, follow):
    one = voice()
    one.say("before anybody looked\n")
    follower = follow(settings)
    follower.shows(one.all)
    one.say("half a ")
    follower.shows(one.say("line\nand one more\n"))
    one.say("the last, without an end", end=True)
    assert (follower.ends(), bytes(follower.err)) == (0, b"")
    assert bytes(follower.out) == one.all + b"\n"


def test_a_worker_that_stands_still_keeps_no_line_back(settings, voice, follow):
    one = voice()
    one.say("stored\n" * 3000)
    group.once(settings)
    one.say("not stored\n" * 2000)
    follower, tail = follow(settings), follow(settings, "--tail", "3")
    follower.shows(one.all)
    tail.shows(b"not stored\n" * 3)
    one.say("live\n")
    follower.shows(one.all)
    tail.shows(b"not stored\n" * 3 + b"live\n")
    # What is stored meanwhile shows no second time, and is no gap.
    group.once(settings)
    time.sleep(1.2)
    one.say("the end\n", end=True)
    assert (follower.ends(), tail.ends()) == (0, 0)
    assert bytes(follower.out) == one.all
    assert bytes(tail.out) == b"not stored\n" * 3 + b"live\nthe end\n"


def test_streams_stay_where_they_are_when_partitions_are_added(settings, voice, follow):
    first = voice(0)
    first.say("zero\n")
    group.once(settings)
    asyncio.run(set_up(parse(settings.transport), Plan(partitions=7)))
    second = voice(1)
    second.say("one\n")
    follower = follow(settings)
    follower.shows(b"zero\n[node-a/1] one\n")
    first.say("zero again\n")
    follower.shows(b"zero\n[node-a/1] one\n[node-a/0] zero again\n")

    async def found(stream, offset):
        connection = Connection(parse(settings.transport), settings.group)
        await connection.open()
        key, numbers = record_key(stream), candidates(stream, connection.count)
        try:
            return await connection.holder(key, offset, numbers)
        finally:
            await connection.close()

    reader = open_reader(settings.store)
    (head,) = reader.heads(first.key)
    reader.close()
    assert asyncio.run(found(first.key, head.position)) == crc32(record_key(first.key)) % 3
    assert asyncio.run(found(first.key, 10_000)) is None
    first.say("", end=True)
    second.say("", end=True)
    assert follower.ends() == 0


def test_without_brokers_it_says_so_once_and_follows_the_store(settings, voice, follow):
    one = voice()
    one.say("one\n")
    group.once(settings)
    follower = follow(settings, LOGHAUL_TRANSPORT="kafka://127.0.0.1:9/none")
    follower.shows(one.all)
    one.say("two\n", end=True)
    group.once(settings)
    assert (follower.ends(), bytes(follower.out)) == (0, one.all)
    (line,) = follower.err.decode().splitlines()
    assert re.search("127.0.0.1:9 cannot be reached.* when they are stored", line)


@pytest.mark.timeout(240)  # a broker of its own, started twice
def test_a_broker_that_restarts_costs_no_line(tmp_path, fragile_kafka, voice, follow):
    kafka = fragile_kafka()
    settings = made(tmp_path / "own", kafka.dsn())
    one = voice(of=settings)
    one.say("before\n")
    follower = follow(settings)
    follower.shows(one.all)
    kafka.kill()
    kafka.start()
    one.say("behind\n", end=True)
    assert (follower.ends(40), bytes(follower.out)) == (0, one.all)


def test_ctrl_c_ends_it_at_once_and_without_a_word(settings, voice, follow):
    one = voice()
    one.say("one\n")
    follower = follow(settings)
    follower.shows(one.all)
    follower.process.send_signal(signal.SIGINT)
    assert (follower.ends(5), follower.err.strip()) == (130, b"")


def test_a_run_that_nobody_knows_is_none(settings, follow):
    follower = follow(settings)
    assert (follower.ends(), bytes(follower.out)) == (3, b"")


SCRIPT = """
import os, sys, time
for n in range(40):
    print("line", n, flush=True)
    time.sleep(0.02)
while not os.path.exists(sys.argv[1]):
    time.sleep(0.02)
print("last words", flush=True)
"""


@pytest.mark.timeout(240)  # of a session's first engine
def test_a_script_elsewhere_is_heard_before_opensearch_has_it(
    tmp_path, kafka, opensearch_stores, follow
):
    settings = made(tmp_path, kafka.dsn(), opensearch_stores("3")())
    ledger, mark = Ledger(settings), tmp_path / "go"
    worker = ledger.start("ingest")
    script = subprocess.Popen(
        [LOGHAUL, "run", "-q", "--run-id", "r1", "--", sys.executable, "-c", SCRIPT, str(mark)],
        env={**os.environ, **settings.environment()},
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_until_known(settings)
        worker.send_signal(signal.SIGSTOP)
        follower = follow(settings)
        wanted = b"".join(b"line %d\n" % n for n in range(40))
        follower.shows(wanted)
        mark.touch()
        wanted += b"last words\n"
        follower.shows(wanted)
        worker.send_signal(signal.SIGCONT)
        assert (script.wait(30), follower.ends(30)) == (0, 0)
        assert (bytes(follower.out), bytes(follower.err)) == (wanted, b"")
    finally:
        worker.send_signal(signal.SIGCONT)
        mark.touch()  # the script outlives who started it
        script.kill()
        script.wait()
        end_shipper(settings)
        ledger.close()


def wait_until_known(settings):
    """Wait until the store has something of the run."""
    until = time.monotonic() + 60
    reader = open_reader(settings.store)
    while not reader.streams("r1"):
        assert time.monotonic() < until
        time.sleep(0.05)
    reader.close()


def end_shipper(settings):
    """End the shipper that a run started."""
    status = (settings.spool / "shipper" / "status.json").read_text()
    os.kill(int(re.search(r'"pid":(\d+)', status)[1]), signal.SIGTERM)
