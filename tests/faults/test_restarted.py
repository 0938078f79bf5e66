"""Broker and OpenSearch are stopped in order and started again under load, as for an upgrade."""

import threading

import pytest

from engines import OpenSearch
from field import Field


@pytest.fixture
def field(tmp_path, fragile_kafka):
    opensearch = OpenSearch(tmp_path / "opensearch", "2.19", 1)
    field = Field(tmp_path, fragile_kafka(1), opensearch)
    yield field
    field.close()
    opensearch.kill()


def restart(field, *engines):
    """Stop and start engines while the writers go on."""

    def again():
        for engine in engines:
            engine.stop()
        for engine in engines:
            engine.start()

    thread = threading.Thread(target=again)
    thread.start()
    while thread.is_alive():
        field.write(2)
    thread.join()


@pytest.mark.timeout(400)
def test_engines_that_are_restarted_under_load_cost_no_line(field):
    field.write(10)
    restart(field, field.opensearch)
    field.write(10)
    restart(field, field.kafka)
    field.write(10)
    restart(field, field.kafka, field.opensearch)
    field.settle()


@pytest.mark.timeout(400)
def test_a_worker_that_starts_before_its_store_waits_for_it(field):
    field.opensearch.stop()
    field.replace("ingest-0")
    field.write(30)
    assert field.children["ingest-0"].poll() is None
    field.opensearch.start()
    field.settle()
