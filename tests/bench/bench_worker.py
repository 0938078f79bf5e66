"""The worker, Kafka to a null bulk endpoint, against rsyslog doing the same, in one run.

    python tests/bench/bench_worker.py DSN STORE [--lines 1000000] [--rsyslogd /usr/sbin/rsyslogd]

DSN and STORE are those of `sh deploy/services start`: a broker, and the node that the endpoint
stands before (null_bulk.py). The same lines lie in two topics of four partitions: as our shipper
sends them, and one JSON record of six fields per line, which rsyslog (imkafka -> omelasticsearch,
packages rsyslog-kafka and rsyslog-elasticsearch) passes on as it is, without ids: nothing is parsed
or recognised there. Two workers stand beside one, into the null endpoint and into the node itself.
CPU is that of all processes of a side. A start is not measured: ours (the better of two) is from
the share of the topic, which every worker has then, to the last offset committed, rsyslog from the
first document to the last one sent. Read the ratios: the machine is shared.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent))

import corpus
from bench_kafka import READ_BYTES, topic
from null_bulk import served
from processes import children, cpu_seconds, peak_mb

PARTITIONS, STREAMS = 4, 32
RSYSLOG = """
global(workDirectory="{folder}" maxMessageSize="256k")
module(load="imkafka")
module(load="omelasticsearch")
template(name="raw" type="string" string="%rawmsg%")
main_queue(queue.type="LinkedList" queue.size="100000" queue.dequeuebatchsize="4096"
           queue.workerthreads="2")
input(type="imkafka" topic="{topic}" broker=["{servers}"] consumergroup="{group}"
      ruleset="out"
      confParam=["auto.offset.reset=earliest"])
ruleset(name="out" queue.type="LinkedList" queue.size="100000" queue.dequeuebatchsize="4096"
        queue.workerthreads="2") {{
  action(type="omelasticsearch" server="127.0.0.1" serverport="{port}" searchIndex="lines"
         searchType="" bulkmode="on" maxbytes="10m" template="raw")
}}
"""


class Cost(NamedTuple):
    """Of one side: seconds of wall clock and CPU, MiB of its largest process."""

    wall: float
    cpu: float
    peak: int


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("dsn")
    options.add_argument("store")
    options.add_argument("--lines", type=int, default=1_000_000)
    options.add_argument("--rsyslogd", default="/usr/sbin/rsyslogd")
    chosen = options.parse_args()
    servers = chosen.dsn.partition("://")[2].partition("/")[0]
    node = chosen.store.partition("://")[2].partition("/")[0]
    with tempfile.TemporaryDirectory(prefix="bench-worker-") as scratch:
        folder = Path(scratch)
        print(f"{chosen.lines:,} lines, {PARTITIONS} partitions, {STREAMS} streams", flush=True)
        chunks = shipped(servers, folder, chosen.lines)
        costs = workers(servers, chunks, node, folder, chosen.lines)
        if Path(chosen.rsyslogd).exists():
            name = asyncio.run(recorded(servers, topic(servers), chosen.lines))
            for lean in (False, True):
                title = f"rsyslog, {'least' if lean else 'whole'} answers"
                with served(node, lean) as null:
                    config = RSYSLOG.format(
                        folder=folder,
                        topic=name,
                        servers=servers,
                        port=null.port,
                        group=f"bench-{uuid.uuid4().hex[:6]}",
                    )
                    costs[title] = rsyslog(chosen.rsyslogd, folder, config, null, chosen.lines)
                    told(title, costs[title], chosen.lines)
    report(costs)


def workers(servers: str, name: str, node: str, folder: Path, lines: int) -> dict[str, Cost]:
    costs = {}
    for count in (1, 2, 1, 2):
        with served(node) as null:
            for kind, place in (("null", f"127.0.0.1:{null.port}"), ("OpenSearch", node)):
                store = f"opensearch://{place}/bench-{uuid.uuid4().hex[:6]}"
                found = drained(servers, name, store, folder, count)
                title = f"{kind}, {count} workers"
                costs[title] = min(costs.get(title, found), found)
                told(title, found, lines)
    return costs


def told(title: str, cost: Cost, lines: int) -> None:
    print(
        f"{title:28}{lines / cost.wall:12,.0f} lines/s{1e6 * cost.cpu / lines:8.2f} us CPU "
        f"per line{cost.peak:6} MiB",
        flush=True,
    )


def shipped(servers: str, folder: Path, lines: int) -> str:
    """Send the corpus as many streams of a spool through our shipper; return the topic."""
    from loghaul import config, shipper
    from loghaul.spool import Limits, SpoolWriter

    source = corpus.lines(lines, 1)
    for number in range(STREAMS):
        writer = SpoolWriter(folder / "spool", {"run.id": "bench"}, limits=Limits(16 * 2**30, 0))
        stream = writer.stream("stdout", "text", "azureml-logs/70_driver_log.txt")
        share = lines * (number + 1) // STREAMS - lines * number // STREAMS
        data = b"".join(islice(source, share))
        for at in range(0, len(data), READ_BYTES):
            assert writer.append(stream, data[at : at + READ_BYTES])
        writer.end("exit", {"exit_code": 0})
        writer.close()
    name = topic(servers)
    transport = f"kafka://{servers}/{name}"
    shipper.once(config.load(home=folder, spool=f"{folder}/spool", transport=transport))
    return name


async def recorded(servers: str, name: str, lines: int) -> str:
    """Send one JSON record per line, as rsyslog and its like expect them; return the topic."""
    from aiokafka import AIOKafkaProducer

    producer = AIOKafkaProducer(
        bootstrap_servers=servers,
        compression_type="lz4",
        max_batch_size=512 * 1024,
        max_request_size=8 * 2**20,
    )
    await producer.start()
    batches: list = []
    builder, partition = producer.create_batch(), 0
    for record in records(lines):
        if builder.append(key=None, value=record, timestamp=None) is None:
            batches.append(await producer.send_batch(builder, name, partition=partition))
            builder, partition = producer.create_batch(), (partition + 1) % PARTITIONS
            builder.append(key=None, value=record, timestamp=None)
    batches.append(await producer.send_batch(builder, name, partition=partition))
    await asyncio.gather(*batches)
    await producer.stop()
    return name


def records(lines: int) -> Iterator[bytes]:
    offset = 0
    for number, line in enumerate(corpus.lines(lines, 1)):
        text = line[:-1].decode()
        yield json.dumps(
            {
                "@timestamp": 1_764_000_000_000 + number,
                "run": "run-000",
                "file": "azureml-logs/70_driver_log.txt",
                "level": text.split("|")[2].lower() if text.count("|") > 2 else "none",
                "offset": offset,
                "message": text,
            }
        ).encode()
        offset += len(line)


def drained(servers: str, name: str, store: str, folder: Path, count: int) -> Cost:
    """Let so many workers read the topic to its end, as a group that has read nothing."""
    group = f"bench-{uuid.uuid4().hex[:6]}"
    environment = {
        **os.environ,
        "LOGHAUL_HOME": str(folder / group),
        "LOGHAUL_TRANSPORT": f"kafka://{servers}/{name}",
        "LOGHAUL_STORE": store,
        "LOGHAUL_GROUP": group,
    }
    command = [sys.executable, "-m", "loghaul_ingest", "ingest", "--workers", str(count)]
    log = folder / group / "worker" / "log"
    with started(command, environment) as pid:
        while not log.exists() or log.read_text().count("partitions assigned") < count:
            time.sleep(0.01)
        return measured(pid, lambda: asyncio.run(committed(servers, name, group)))


@contextmanager
def started(command: list[str], environment: dict[str, str]) -> Iterator[int]:
    """Run a command meanwhile; gives its process."""
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def measured(pid: int, wait: Callable[[], None]) -> Cost:
    """Return what a process and those below it cost from now until something has come about."""
    wall, cpu = time.perf_counter(), spent(pid)
    wait()
    peak = max(map(peak_mb, [pid, *children(pid)]))
    return Cost(time.perf_counter() - wall, spent(pid) - cpu, peak)


def spent(pid: int) -> float:
    return sum(map(cpu_seconds, [pid, *children(pid)]))


async def committed(servers: str, name: str, group: str) -> None:
    """Wait until a group has committed all of a topic."""
    from aiokafka import AIOKafkaConsumer
    from aiokafka.admin import AIOKafkaAdminClient
    from aiokafka.structs import TopicPartition

    places = [TopicPartition(name, number) for number in range(PARTITIONS)]
    consumer = AIOKafkaConsumer(bootstrap_servers=servers)
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await consumer.start()
    await admin.start()
    ends = {place: end for place, end in (await consumer.end_offsets(places)).items() if end}
    while True:
        offsets = await admin.list_consumer_group_offsets(group)
        if all(place in offsets and offsets[place].offset >= end for place, end in ends.items()):
            break
        await asyncio.sleep(0.1)
    await consumer.stop()
    await admin.close()


def rsyslog(program: str, folder: Path, text: str, null, lines: int) -> Cost:  # type: ignore[no-untyped-def]
    """Let a private rsyslogd read its topic to the end."""
    (folder / "rsyslog.conf").write_text(text)
    command = [program, "-n", "-f", str(folder / "rsyslog.conf"), "-i", str(folder / "pid")]
    with started(command, dict(os.environ)) as pid:
        while not null.items():
            time.sleep(0.01)

        def sent() -> None:
            while null.items() < lines:
                time.sleep(0.02)

        return measured(pid, sent)


def report(costs: dict[str, Cost]) -> None:
    one = costs["null, 1 workers"]
    for name, cost in costs.items():
        if name.startswith("rsyslog"):
            print(f"CPU per line against {name}: {one.cpu / cost.cpu:.2f}x (goal: 1x)")
    for store in ("null", "OpenSearch"):
        first, second = (costs[f"{store}, {count} workers"].wall for count in (1, 2))
        print(f"two workers against one, {store}: {first / second:.2f}x lines/s")


if __name__ == "__main__":
    main()
