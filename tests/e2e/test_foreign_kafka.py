"""Real producers on a real topic: kcat, rsyslog's omkafka, the OpenTelemetry SDK's encoder."""

import asyncio
import glob
import os
import shutil
import signal
import socket
import subprocess
import time

import pytest

from loghaul.transports.address import parse
from loghaul_ingest.sources.kafka import KafkaSource
from loghaul_ingest.stack import stack
from loghaul_ingest.stores import open_reader, open_writer


def need(program):
    found = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if found is None:
        without(program)
    return found


def without(program):
    """Skip the test, saying why; fail it in CI, which installs what it needs."""
    missing = f"{program} is not installed (Debian: kcat, rsyslog, rsyslog-kafka)"
    pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)


class Pipe:
    """A topic and a store; `ingest` works until nothing more comes."""

    def __init__(self, dsn, folder):
        self.dsn, self.folder = dsn, folder
        self.address = parse(dsn)
        self.servers = dsn.split("/")[2]
        self.topic = self.address.topic
        self.store = f"sqlite://{folder}/store"

    def ingest(self, group, lines, run, seconds=40):
        async def work():
            writer, reader = open_writer(self.store), open_reader(self.store)
            source = KafkaSource(self.address, group)
            worker = stack(source, writer, reader, self.folder / "letters")
            until = time.monotonic() + seconds
            try:
                while time.monotonic() < until:
                    await worker.step(0.1)
                    if worker.core.counts.chunks and worker.core.settled:
                        await worker.drain()
                        if self.text(run).count(b"\n") >= lines:
                            break
                await worker.drain()
                await worker.finish()
            finally:
                await writer.close()
                reader.close()

        asyncio.run(work())

    def text(self, run):
        reader = open_reader(self.store)
        try:
            found = b""
            for row in reader.streams(run):
                heads = [head.key for head in reader.heads(row.facts.stream)]
                found += b"".join(block.data for block in reader.load(heads))
            return found
        finally:
            reader.close()


@pytest.fixture
def pipe(kafka, tmp_path):
    return Pipe(kafka.dsn(partitions=1), tmp_path)


def test_lines_of_kcat_are_stored_once_also_for_a_group_that_reads_them_again(pipe):
    kcat = need("kcat")
    lines = b"".join(b"step %d loss=%.3f\n" % (i, 1 / (i + 1)) for i in range(5000))
    command = [kcat, "-P", "-b", pipe.servers, "-t", pipe.topic, "-H", "loghaul-run=by-kcat"]
    subprocess.run(command, input=lines, check=True, timeout=60)

    pipe.ingest("first", 5000, "by-kcat")
    pipe.ingest("second", 5000, "by-kcat", seconds=8)

    assert pipe.text("by-kcat") == lines
    assert not (pipe.folder / "letters").exists()


def test_syslog_lines_arrive_as_rsyslog_sent_them(pipe, tmp_path):
    rsyslogd = need("rsyslogd")
    if not glob.glob("/usr/lib/*/rsyslog/omkafka.so"):
        without("rsyslog-kafka")
    port = _free_port()
    settings = tmp_path / "rsyslog.conf"
    settings.write_text(
        f"""module(load="imtcp")
module(load="omkafka")
input(type="imtcp" port="{port}" address="127.0.0.1")
template(name="line" type="string" string="%msg:2:$%\\n")
action(type="omkafka" broker=["{pipe.servers}"] topic="{pipe.topic}" template="line"
       confParam=["compression.codec=none"] resubmitOnFailure="on")
"""
    )
    started = subprocess.Popen([rsyslogd, "-n", "-f", settings, "-i", tmp_path / "pid"])
    try:
        _send(port, [b"epoch %d done" % number for number in range(300)])
        pipe.ingest("syslog", 300, f"unassigned/{pipe.topic}_0")
    finally:
        started.send_signal(signal.SIGTERM)
        started.wait(20)

    wanted = b"".join(b"epoch %d done\n" % number for number in range(300))
    assert pipe.text(f"unassigned/{pipe.topic}_0") == wanted


def test_protobuf_of_the_opentelemetry_sdk_is_read_beside_poison(pipe):
    pytest.importorskip("opentelemetry.exporter.otlp.proto.common", reason="the SDK is missing")
    from aiokafka import AIOKafkaProducer

    async def send():
        async with AIOKafkaProducer(bootstrap_servers=pipe.servers) as producer:
            for number in range(20):
                await producer.send_and_wait(pipe.topic, _request(number))
                await producer.send_and_wait(pipe.topic, b"\x00\xff not a log")
                await producer.send_and_wait(pipe.topic, None, key=b"tombstone")

    asyncio.run(send())
    pipe.ingest("otlp", 60, "by-otlp")

    found = pipe.text("by-otlp").splitlines()
    wanted = [b'"message":"%d.%d"' % (i, j) for i in range(20) for j in range(3)]
    assert all(text in line for text, line in zip(wanted, found, strict=True))
    assert len(list((pipe.folder / "letters").glob("*.json"))) == 40


def _request(number):
    from opentelemetry._logs import SeverityNumber
    from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
    from opentelemetry.sdk.resources import Resource

    exporter = InMemoryLogRecordExporter()
    resource = Resource.create({"loghaul.run.id": "by-otlp"})
    provider = LoggerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    for part in range(3):
        provider.get_logger("sdk").emit(
            timestamp=time.time_ns(), severity_number=SeverityNumber.INFO, body=f"{number}.{part}"
        )
    return encode_logs(exporter.get_finished_logs()).SerializeToString()


def _free_port():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def _send(port, lines):
    until = time.monotonic() + 20
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), 5) as stream:
                for line in lines:
                    stream.sendall(b"<14>Nov 23 22:40:07 node-a train: " + line + b"\n")
                return
        except ConnectionRefusedError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
