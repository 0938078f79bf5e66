"""Workers come and go all the time: partitions move every few seconds, and no byte moves twice."""

import json
import signal
import time

import pytest

from engines import Kafka, OpenSearch
from field import Field


@pytest.fixture
def field(tmp_path):
    kafka, opensearch = Kafka(tmp_path / "kafka"), OpenSearch(tmp_path / "opensearch", "2.19", 1)
    field = Field(tmp_path, kafka, opensearch, partitions=12, workers=4, writers=6)
    yield field
    field.close()
    kafka.kill()
    opensearch.kill()


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seconds", [20, pytest.param(600, marks=pytest.mark.slow)])
def test_the_ledger_balances_while_partitions_move_every_few_seconds(field, seconds):
    workers = [name for name in field.children if name != "ship"]
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        # One that leaves in order is missed at once; for one that is killed the whole group waits
        # to the end of its session, 45 s: with many of them nothing would move any more.
        number = signal.SIGTERM if field.random.random() < 0.97 else signal.SIGKILL
        field.replace(field.random.choice(workers), number)
        field.write(field.random.randint(2, 10), pause_seconds=0.4)
    field.settle()
    assert moves(field) >= seconds // 20


def moves(field):
    """How often a worker was told of its share; a journal counts what it does not repeat."""
    notes = map(json.loads, (field.settings.home / "worker" / "log").read_text().splitlines())
    told = [note for note in notes if note["message"] == "partitions assigned"]
    return sum(1 + note.get("repeated", 0) for note in told)
