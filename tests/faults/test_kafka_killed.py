"""Shipper and worker are killed and moved: no byte is lost, none stored twice."""

import random
import time

import pytest

from ledger import Load


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
    ledger.settle(120)


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
    ledger.settle()
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
    ledger.settle(120)
