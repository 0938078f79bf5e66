"""Between shipper, workers, Kafka and OpenSearch is a network that fails: the ledger balances."""

import time

import pytest

from engines import Kafka
from field import Field
from wire import FAULTS, Wire


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    """A broker that is only ever reached through a wire, and the wire."""
    kafka = Kafka(tmp_path_factory.mktemp("broker") / "kafka")
    wire = Wire(kafka.servers, every=40)
    try:
        kafka.advertise(wire.place)
        yield kafka, wire
    finally:
        kafka.kill()
        wire.close()


@pytest.fixture
def network(tmp_path, broker, opensearch_stores):
    """The whole pipeline, and its two wires: to Kafka, to OpenSearch."""
    kafka, to_kafka = broker
    store = opensearch_stores("2.19")()
    place = store.split("/")[2]
    to_store = Wire(place, every=5)
    dsn = kafka.dsn(partitions=4).replace(kafka.servers, to_kafka.place)
    store = f"{store.replace(place, to_store.place)}&timeout_seconds=4"
    field = Field(tmp_path, transport=dsn, store=store, scripted=False)
    yield field, to_kafka, to_store
    field.close()
    to_store.close()


@pytest.mark.timeout(400)
@pytest.mark.parametrize("fault", FAULTS)
def test_the_ledger_balances_over_wires_that_are(fault, network):
    field, *wires = network
    field.write(10)
    field.ledger.wait_until_stored(120)  # everybody has begun
    until, goal = time.monotonic() + 60, [wire.suffered + 1 for wire in wires]
    with wires[0].suffering(fault), wires[1].suffering(fault):
        field.write(30)
        while any(wire.suffered < count for wire, count in zip(wires, goal, strict=True)):
            assert time.monotonic() < until, "nothing passes that could suffer"
            field.write(1)
    field.write(5)
    field.settle()
