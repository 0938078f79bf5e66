"""Shipper, worker and brokers are killed, moved and cut off: no byte is lost, none stored twice."""

import json
import os
import random
import signal
import threading
import time

import pytest

from ledger import Ledger
from loghaul import config


@pytest.fixture
def ledger_on(tmp_path):
    made = []

    def make(dsn, **settings):
        found = config.load(home=tmp_path / "home", transport=dsn, group="test", **settings)
        found.spool.mkdir(parents=True)
        made.append(Ledger(found))
        return made[-1]

    yield make
    for ledger in made:
        ledger.close()


class Load:
    """Writers that write on in a thread while the test breaks things."""

    def __init__(self, ledger, writers=3, lines_per_second=2000):
        self._scribes = [ledger.scribe() for _ in range(writers)]
        self._pace = 20 / lines_per_second
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        while not self._stop.wait(self._pace):
            for scribe in self._scribes:
                scribe.write(20)

    def end(self):
        self._stop.set()
        self._thread.join()
        for scribe in self._scribes:
            scribe.end()


def settle(ledger, seconds=90):
    ledger.wait_until_stored(seconds)
    until = time.monotonic() + 30
    while any(len(path.name) == 32 for path in ledger.settings.spool.iterdir()):
        assert time.monotonic() < until, "folders stay in the spool"
        time.sleep(0.1)
    ledger.check()


@pytest.mark.timeout(300)
def test_a_shipper_and_a_worker_that_are_killed_at_any_moment_lose_nothing(
    kafka, ledger_on, request
):
    random.seed(4)
    ledger = ledger_on(kafka.dsn())
    load = Load(ledger)
    for _ in range(60 if request.config.getoption("--slow") else 6):
        doomed = [ledger.start("ship"), ledger.start("ingest")]
        time.sleep(random.uniform(0.3, 2.0))
        for process in doomed:
            process.kill()
            process.wait()
    load.end()
    ledger.start("ship")
    ledger.start("ingest")
    # A worker that was killed keeps its place in the group for the time of a session.
    settle(ledger, 120)


@pytest.mark.timeout(300)
def test_workers_that_come_and_go_hand_their_partitions_over(kafka, ledger_on):
    ledger = ledger_on(kafka.dsn(partitions=6))
    load = Load(ledger, 6)
    ledger.start("ship")
    first = ledger.start("ingest")
    time.sleep(3)
    second = ledger.start("ingest")
    time.sleep(4)
    first.terminate()
    assert first.wait(30) == 0
    third = ledger.start("ingest")
    time.sleep(4)
    load.end()
    settle(ledger)
    for process in (second, third):
        process.terminate()
        assert process.wait(30) == 0


@pytest.mark.timeout(300)
def test_partitions_that_are_added_under_load_change_nothing(kafka, ledger_on):
    import asyncio

    from loghaul.transports.address import parse
    from loghaul_ingest.topics import Plan, set_up

    dsn = kafka.dsn(partitions=2)
    ledger = ledger_on(dsn)
    load = Load(ledger)
    ledger.start("ship")
    ledger.start("ingest")
    time.sleep(2)
    asyncio.run(set_up(parse(dsn), Plan(partitions=7)))
    later = Load(ledger)
    time.sleep(2)
    load.end()
    later.end()
    ledger.start("ship").wait(30)
    settle(ledger, 120)


@pytest.mark.timeout(300)
def test_a_broker_that_is_killed_under_load_and_comes_back_loses_nothing(fragile_kafka, ledger_on):
    broker = fragile_kafka()
    ledger = ledger_on(broker.dsn())
    load = Load(ledger, lines_per_second=500)
    ledger.start("ship")
    ledger.start("ingest")
    for _ in range(2):
        time.sleep(2)
        broker.kill()
        time.sleep(2)
        broker.start()
    time.sleep(1)
    load.end()
    settle(ledger, 150)


@pytest.mark.timeout(300)
def test_a_broker_that_is_not_there_at_the_start_is_waited_for(fragile_kafka, ledger_on):
    broker = fragile_kafka()
    ledger = ledger_on(broker.dsn())
    broker.kill()
    load = Load(ledger, lines_per_second=500)
    shipper, worker = ledger.start("ship"), ledger.start("ingest")
    time.sleep(3)
    assert (shipper.poll(), worker.poll()) == (None, None)
    broker.start()
    load.end()
    settle(ledger, 120)


@pytest.mark.timeout(400)
def test_of_three_brokers_one_may_die(fragile_kafka, ledger_on):
    cluster = fragile_kafka(3)
    ledger = ledger_on(cluster.dsn(partitions=6))
    load = Load(ledger, lines_per_second=500)
    ledger.start("ship")
    ledger.start("ingest")
    time.sleep(3)
    os.kill(cluster.pids()[1], signal.SIGKILL)
    time.sleep(6)
    load.end()
    settle(ledger, 150)


@pytest.mark.timeout(400)
def test_with_too_few_copies_nothing_is_acknowledged_and_nothing_lost(fragile_kafka, ledger_on):
    cluster = fragile_kafka(3)
    # Of three copies three have to be there: one broker lost is one too few, two are no quorum.
    ledger = ledger_on(cluster.dsn(partitions=3, min_insync_replicas=3))
    load = Load(ledger, lines_per_second=500)
    ledger.start("ship")
    ledger.start("ingest")
    wait_until_shipped(ledger)
    for lost in (1, 2):
        for pid in cluster.pids()[:lost]:
            os.kill(pid, signal.SIGKILL)
        acknowledged = wait_until_still(ledger)
        time.sleep(5)
        assert shipped(ledger) == acknowledged, "acknowledged with too few copies"
        cluster.start()
    load.end()
    settle(ledger, 150)


def wait_until_shipped(ledger, seconds=60):
    """Wait until something was acknowledged."""
    until = time.monotonic() + seconds
    while not shipped(ledger):
        assert time.monotonic() < until
        time.sleep(0.2)


def shipped(ledger):
    """What the shipper says was acknowledged, in bytes."""
    status = ledger.settings.spool / "shipper" / "status.json"
    return json.loads(status.read_text())["bytes"] if status.exists() else 0


def wait_until_still(ledger, seconds=60):
    """Wait until nothing is acknowledged any more: what was on its way comes to its end."""
    until, before = time.monotonic() + seconds, -1
    while (now := shipped(ledger)) != before:
        assert time.monotonic() < until
        before = now
        time.sleep(3)
    return now
