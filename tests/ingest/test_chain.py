"""The probe of the doctor: through the whole chain, found, deleted, each stage with its time."""

import re
import socket
import threading

import pytest

from loghaul import config
from loghaul_ingest import chain, group
from loghaul_ingest.doctor import OK, WARNING, WRONG, examine
from loghaul_ingest.stores import open_reader


def runs(settings):
    reader = open_reader(settings.store)
    try:
        return reader.runs()
    finally:
        reader.close()


@pytest.fixture
def settings(tmp_path):
    return config.load(home=tmp_path / "home")


@pytest.fixture
def nobody():
    """An address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    return f"127.0.0.1:{port}"


def test_a_probe_goes_through_the_embedded_chain_and_leaves_nothing(settings):
    found = list(chain.probe(settings))

    stages = ("spool", "store", "search", "delete")
    assert [f.subject for f in found] == [f"probe {stage}" for stage in stages]
    assert {f.state for f in found} == {OK}
    assert all(re.search(r"\([\d,.]+ ms\)$", f.text) for f in found)
    assert not runs(settings)


def test_a_probe_that_gets_stuck_says_where_and_how_it_goes(settings, monkeypatch):
    from loghaul_ingest import worker

    monkeypatch.setattr(worker, "catch_up", lambda *_: worker.CaughtUp(False, "the store is away"))

    *_, last = chain.probe(settings)

    assert (last.subject, last.state) == ("probe store", WRONG)
    assert "the store is away" in last.text
    assert re.search(r"loghaul delete loghaul-doctor_\d+_[0-9a-f]{8}", last.advice)


def test_a_probe_with_no_broker_is_one_sentence_within_seconds(tmp_path, nobody):
    settings = config.load(home=tmp_path, transport=f"kafka://{nobody}/loghaul")

    *_, last = chain.probe(settings)

    assert (last.subject, last.state) == ("probe transport", WRONG)
    assert "\n" not in last.text


def test_doctor_looks_at_the_transport_where_there_is_one(tmp_path, nobody):
    settings = config.load(home=tmp_path, transport=f"kafka://{nobody}/loghaul")

    found = {finding.subject: finding for finding in chain.look(settings)}

    assert found["transport"].state == WRONG
    assert found["shipper"].state == OK
    assert "not running" in found["shipper"].text


def test_doctor_without_a_probe_writes_no_run(settings):
    assert [f for f in examine(settings) if f.subject.startswith("probe")] == []
    assert not settings.spool.exists()


def test_a_probe_goes_through_kafka_and_a_worker(kafka, tmp_path):
    settings = config.load(
        home=tmp_path, transport=kafka.dsn(), group=f"probe-{tmp_path.name}", drain_seconds=5
    )
    begun = threading.Event()
    idle = {finding.subject: finding.state for finding in chain.look(settings)}
    answers = []

    def work():
        begun.set()
        for _ in range(30):
            group.once(settings)
            if answers:
                return

    worker = threading.Thread(target=work)
    worker.start()
    begun.wait()
    try:
        found = list(chain.probe(settings, patience_seconds=40))
    finally:
        answers.append(True)
        worker.join()

    assert (idle["transport"], idle["workers"]) == (OK, WARNING)
    stages = ("spool", "transport", "store", "search", "delete")
    assert [f.subject for f in found] == [f"probe {stage}" for stage in stages]
    assert {f.state for f in found} == {OK}
    assert not runs(settings)
