"""Brokers are killed, too few, or not there yet: no byte is lost, none stored twice."""

import json
import os
import signal
import time

import pytest

from ledger import Load


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
    ledger.settle(150)


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
    ledger.settle(120)


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
    ledger.settle(150)


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
    ledger.settle(150)


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
