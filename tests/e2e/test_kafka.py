"""Spool -> Kafka -> store on a real broker: every byte, once; every mistake in one sentence."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ledger import Ledger
from loghaul import config, shipper
from loghaul.chunk import Record
from loghaul.errors import TransportError, TransportRefused
from loghaul.spool import SpoolWriter
from loghaul.transports import connector
from loghaul_ingest import group
from loghaul_ingest.sources.kafka import Refused
from loghaul_ingest.stores import open_reader

LOGHAUL = str(Path(sys.executable).with_name("loghaul"))


@pytest.fixture
def ledger(tmp_path, kafka):
    home, dsn = tmp_path / "home", kafka.dsn()
    settings = config.load(home=home, transport=dsn, group="test", background=True)
    settings.spool.mkdir(parents=True)
    ledger = Ledger(settings)
    yield ledger
    ledger.close()


def loghaul(settings, *args, **options):
    environment = {**os.environ, **settings.environment(), **options.pop("env", {})}
    options = {"capture_output": True, "timeout": 60, **options}
    return subprocess.run([LOGHAUL, *args], env=environment, check=False, **options)


def test_every_byte_arrives_once_and_the_spool_is_empty_again(ledger):
    for _ in range(3):
        scribe = ledger.scribe()
        scribe.write(5000)
        scribe.end()
    shipper.once(ledger.settings)
    group.once(ledger.settings)
    ledger.check()
    assert [path.name for path in ledger.settings.spool.iterdir()] == ["shipper"]


def test_what_was_taken_in_is_committed_and_comes_no_second_time(ledger):
    scribe = ledger.scribe()
    scribe.write(100)
    shipper.once(ledger.settings)
    group.once(ledger.settings)
    scribe.write(100)
    scribe.end()
    shipper.once(ledger.settings)
    group.once(ledger.settings)
    ledger.check()
    log = (ledger.settings.home / "worker" / "log").read_text()
    assert re.findall(r'"repeated_bytes": (\d+)', log) == ["0", "0"]


def test_a_run_is_shipped_by_itself_and_waited_for(ledger):
    said = "from a script é\n"
    script = f"import sys; print({said!r}, end=''); sys.exit(3)"
    done = loghaul(ledger.settings, "run", "--run-id", "r1", "--", sys.executable, "-c", script)
    assert (done.returncode, done.stdout.decode(), done.stderr) == (3, said, b"")
    # `run` returned when all of it was in Kafka: nothing of it waits in the spool.
    assert [path.name for path in ledger.settings.spool.iterdir()] == ["shipper"]
    assert loghaul(ledger.settings, "ingest", "--once").returncode == 0
    assert loghaul(ledger.settings, "logs", "r1", "--raw").stdout.decode() == said
    followed = loghaul(ledger.settings, "logs", "r1", "-f")
    assert (followed.returncode, followed.stdout.decode()) == (0, said)
    (row,) = open_rows(ledger.settings)
    assert row.status == "failed"
    pid = int(
        re.search(r'"pid":(\d+)', (ledger.settings.spool / "shipper/status.json").read_text())[1]
    )
    os.kill(pid, 15)


def end_shipper(settings):
    """End the shipper that a run started."""
    status = (settings.spool / "shipper" / "status.json").read_text()
    os.kill(int(re.search(r'"pid":(\d+)', status)[1]), signal.SIGTERM)


def open_rows(settings):
    reader = open_reader(settings.store)
    try:
        return reader.runs()
    finally:
        reader.close()


def test_a_run_without_a_broker_ends_as_ever_and_says_what_is_left(ledger):
    variables = {"LOGHAUL_TRANSPORT": "kafka://127.0.0.1:9/none", "LOGHAUL_DRAIN_SECONDS": "1"}
    done = loghaul(ledger.settings, "run", "--", "sh", "-c", "echo hello; exit 4", env=variables)
    assert (done.returncode, done.stdout, done.stderr) == (4, b"hello\n", b"")
    assert "bytes are still in" in (ledger.settings.home / "client.log").read_text()
    # The shipper of the right transport makes the one of the wrong one give way.
    done = loghaul(ledger.settings, "run", "--", "sh", "-c", "echo hello; exit 4")
    assert (done.returncode, done.stdout, done.stderr) == (4, b"hello\n", b"")
    until = time.monotonic() + 30
    while any(len(path.name) == 32 for path in ledger.settings.spool.iterdir()):
        assert time.monotonic() < until
        time.sleep(0.1)
    pid = int(
        re.search(r'"pid":(\d+)', (ledger.settings.spool / "shipper/status.json").read_text())[1]
    )
    os.kill(pid, 15)


def test_records_that_are_no_chunks_do_not_stop_the_others(ledger):
    import asyncio

    async def send():
        transport = connector(ledger.settings.transport)()
        await transport.open()
        empty = Record(b"", b"", [])
        strange = Record(b"k", b"\xff\xfe", [("schema", b"99"), ("x", b"\x00")])
        for partition in range(transport.partitions):
            await transport.send(partition, [empty, strange])
        await transport.close()

    asyncio.run(send())
    scribe = ledger.scribe()
    scribe.write(10)
    scribe.end()
    shipper.once(ledger.settings)
    group.once(ledger.settings)
    reader = open_reader(ledger.settings.store)
    stored = {row.facts.stream.stream: row.stored for row in reader.streams(ledger.run)}
    reader.close()
    assert stored == {name: len(data) for name, data in scribe.written.items()}


def test_what_expired_before_it_was_read_is_a_gap(ledger, kafka):
    import asyncio

    from aiokafka.admin import RecordsToDelete
    from aiokafka.structs import TopicPartition

    from loghaul.transports.address import parse
    from loghaul.transports.kafka import admin, examine

    address = parse(ledger.settings.transport)

    async def expire():
        topic = await examine(address)
        async with admin(address) as client:
            await client.delete_records(
                {
                    TopicPartition(address.topic, number): RecordsToDelete(before_offset=-1)
                    for number in range(topic.partitions)
                }
            )

    scribe = ledger.scribe(streams=("stdout",))
    scribe.write(10)
    shipper.once(ledger.settings)
    group.once(ledger.settings)
    before = len(scribe.written["stdout"])
    scribe.write(10)
    shipper.once(ledger.settings)
    lost = len(scribe.written["stdout"]) - before
    asyncio.run(expire())
    scribe.write(10)
    shipper.once(ledger.settings)
    group.once(ledger.settings)
    reader = open_reader(ledger.settings.store)
    (row,) = reader.streams(ledger.run)
    reader.close()
    assert [(gap.offset, gap.length) for gap in row.facts.gaps] == [(before, lost)]
    assert "expired" in row.facts.gaps[0].reason


@pytest.mark.parametrize(
    ("dsn", "said"),
    [
        ("{scheme}://{servers}/nosuch", "there is no topic 'nosuch'"),
        ("kafkas://{servers}/test", "TLS|ended the connection"),
        ("kafka://jo:pw@{servers}/test", "does not let 'jo' in"),
        ("kafka://127.0.0.1:9/test", "127.0.0.1:9 cannot be reached: Connection refused"),
        ("kafka://no.such.host.invalid/test", "no.such.host.invalid:9092 cannot be reached"),
        ("kafka://{web}/test", "is a web server, not Kafka"),
        ("nonsense", "neither kafka:// nor kafkas://"),
    ],
)
def test_a_wrong_transport_is_one_sentence_within_seconds(dsn, said, kafka, web, tmp_path):
    dsn = dsn.format(scheme="kafka", servers=kafka.servers, web=web)
    settings = config.load(home=tmp_path / "home", transport=dsn)
    for command in (["ship", "--once"], ["setup", "--check"], ["ingest", "--once"]):
        begun = time.monotonic()
        done = loghaul(settings, *command)
        assert done.returncode == 1, (command, done)
        (line,) = done.stderr.decode().splitlines()
        assert re.search(said, line), line
        assert "pw" not in line
        assert time.monotonic() - begun < 15


@pytest.fixture
def web():
    import http.server
    import threading

    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    server.RequestHandlerClass.log_message = lambda *_: None
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("cleanup_policy", "compact", "cleanup.policy=compact"),
        ("max_message_bytes", 100_000, "max.message.bytes is below"),
        ("retention_ms", 60_000, "retention.ms=60000"),
    ],
)
def test_an_unsafe_topic_is_refused_until_setup_has_mended_it(
    setting, value, said, kafka, tmp_path
):
    settings = config.load(home=tmp_path / "home", transport=kafka.dsn(**{setting: value}))
    with pytest.raises(TransportRefused, match=re.escape(said)):
        shipper.once(settings)
    with pytest.raises(Refused, match=re.escape(said)):
        group.once(settings)
    checked = loghaul(settings, "setup", "--check")
    assert checked.returncode == 1 and said.partition("=")[0] in checked.stderr.decode()
    assert loghaul(settings, "setup").returncode == 0
    assert loghaul(settings, "setup", "--check").returncode == 0
    shipper.once(settings)


def test_a_clock_that_the_brokers_refuse_is_named_until_setup_lets_theirs_count(kafka, tmp_path):
    # Of a node whose clock is off: whatever it sends is too old, here after a millisecond.
    strict = {"message_timestamp_type": "CreateTime", "message_timestamp_before_max_ms": 1}
    settings = config.load(home=tmp_path / "home", transport=kafka.dsn(**strict), group="clock")
    writer = SpoolWriter(settings.spool, {"run.id": "clock"})
    writer.append(writer.stream("stdout", "text", "out.txt"), b"of another time\n")
    writer.end("exit", {})
    writer.close()
    with pytest.raises(TransportRefused, match=r"clock of this machine is far off.*NTP"):
        shipper.once(settings)
    checked = loghaul(settings, "setup", "--check")
    assert checked.returncode == 1 and b"message.timestamp.type is CreateTime" in checked.stderr
    assert loghaul(settings, "setup").returncode == 0
    assert shipper.once(settings).records > 0


def test_without_aiokafka_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "aiokafka", None)
    settings = config.load(home=tmp_path, transport="kafka://127.0.0.1:9/test")
    with pytest.raises(TransportError, match=r"install 'loghaul\[kafka\]'"):
        shipper.once(settings)


def test_several_workers_of_one_command_share_the_topic_and_end_together(ledger):
    scribes = [ledger.scribe() for _ in range(4)]
    process = ledger.start("ingest", "--workers", "2")
    log, until = ledger.settings.home / "worker" / "log", time.monotonic() + 60
    while not log.exists() or log.read_text().count('"partitions assigned"') < 2:
        assert time.monotonic() < until
        time.sleep(0.1)
    for scribe in scribes:
        scribe.write(500)
        scribe.end()
    shipper.once(ledger.settings)
    ledger.wait_until_stored()
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    ledger.check()


def test_several_workers_make_no_sense_for_a_spool(ledger, tmp_path):
    done = loghaul(ledger.settings, "ingest", "--workers", "2", env={"LOGHAUL_TRANSPORT": ""})
    assert (done.returncode, b"a spool is read by one worker" in done.stderr) == (2, True)
