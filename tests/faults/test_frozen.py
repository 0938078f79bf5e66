"""Each part of the pipeline stands still for a while, as under a debugger or a swapping machine."""

import os
import signal
import time

import pytest

from engines import Kafka, OpenSearch
from field import Field

VICTIMS = {
    "writer": lambda field: field.scripts[-1].pids().values(),
    "shipper": lambda field: [field.children["ship"].pid],
    "broker": lambda field: field.kafka.pids(),
    "worker": lambda field: [field.children["ingest-0"].pid],
    "opensearch": lambda field: field.opensearch.pids(),
}
#: Longer than a session of the group, too: the others took over, and a zombie wakes up.
SECONDS = [3, *(pytest.param(seconds, marks=pytest.mark.slow) for seconds in (5, 60))]


@pytest.fixture(scope="module")
def engines(tmp_path_factory):
    home = tmp_path_factory.mktemp("engines")
    kafka, opensearch = Kafka(home / "kafka"), OpenSearch(home / "opensearch", "2.19", 1)
    yield kafka, opensearch
    kafka.kill()
    opensearch.kill()


@pytest.fixture
def field(tmp_path, engines):
    field = Field(tmp_path, *engines)
    yield field
    field.close()


@pytest.mark.timeout(400)
@pytest.mark.parametrize("seconds", SECONDS)
@pytest.mark.parametrize("victim", VICTIMS)
def test_what_stood_still_goes_on_and_the_ledger_balances(field, victim, seconds):
    field.write(10)
    pids = list(VICTIMS[victim](field))
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            field.write(1)
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    field.write(10)
    field.settle()
