"""The shipper, spool to Kafka, against confluent-kafka with one record per line, in one run.

    python tests/bench/bench_kafka.py DSN PYTHON [lines]     # default 1,000,000

DSN is that of a broker (`sh deploy/services start kafka`), PYTHON one that has confluent-kafka.
All are idempotent, acks=all, into 4 partitions of a new topic, in a process of their own; what is
measured is wall clock, CPU and largest size of that process, from the first line to the last
acknowledgement. confluent-kafka is given the lines in memory, once bare with lz4, which is the
cheapest for it, and once with what the shipper's records have: zstd, and whose line it is (run,
writer, stream, offset). Read the ratios: the machine is shared.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

READ_BYTES = 4096


def main(dsn: str, other: str, lines: int) -> None:
    """Measure both, and print lines per second, CPU per line, and the ratio."""
    import corpus

    data = corpus.corpus(lines)
    servers = dsn.partition("://")[2].partition("/")[0]
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        (home / "lines").write_bytes(data)
        spool(home / "spool", data)
        ours = run(sys.executable, "ship", f"kafka://{servers}/{topic(servers)}", folder)
        bare, equal = (
            run(other, "confluent", servers, topic(servers), str(home / "lines"), codec)
            for codec in ("lz4", "zstd")
        )
    print(f"{lines:,} lines, {len(data) / lines:.0f} bytes each, 4 partitions, acks=all")
    for name, found in (("shipper", ours), ("bare, lz4", bare), ("equal, zstd", equal)):
        rate, cost = lines / found["wall"], 1e6 * found["cpu"] / lines
        rss = found["rss"]
        print(f"{name:16} {rate:>10,.0f} lines/s {cost:>8.2f} us CPU per line {rss:>5} MB")
    ratios = [ours["cpu"] / theirs["cpu"] for theirs in (bare, equal)]
    print(f"CPU per line: {ratios[0]:.2f}x of bare, {ratios[1]:.2f}x of equal (goal 0.2x)")


def spool(root: Path, data: bytes) -> None:
    """As a pipe gives it: reads of about 4 KiB."""
    from loghaul.spool import Limits, SpoolWriter

    writer = SpoolWriter(root, {"run.id": "bench"}, limits=Limits(8 * 2**30, 0))
    stream = writer.stream("stdout", "text", "azureml-logs/70_driver_log.txt")
    for at in range(0, len(data), READ_BYTES):
        assert writer.append(stream, data[at : at + READ_BYTES])
    writer.end("exit", {"exit_code": 0})
    writer.close()


def topic(servers: str) -> str:
    """Make a topic of four partitions."""
    import asyncio

    from loghaul.transports.address import parse
    from loghaul_ingest.topics import Plan, set_up

    name = f"bench-{uuid.uuid4().hex[:8]}"
    asyncio.run(set_up(parse(f"kafka://{servers}/{name}"), Plan(4)))
    return name


def run(python: str, *arguments: str) -> dict[str, float]:
    """Run one side in a process of its own."""
    done = subprocess.run(
        [python, __file__, *arguments], capture_output=True, text=True, check=True
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def measured(work) -> None:  # type: ignore[no-untyped-def]
    """Print what it cost."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    found = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    # ru_maxrss would tell of the process that this one was forked from.
    peak = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    print(json.dumps({**found, "rss": int(peak[1]) // 1024 if peak else 0}))


def ship(dsn: str, home: str) -> None:
    """Our side."""
    import aiokafka
    import aiokafka.admin  # noqa: F401

    from loghaul import config, shipper

    settings = config.load(home=home, spool=f"{home}/spool", transport=dsn)
    measured(lambda: shipper.once(settings))


def confluent(servers: str, name: str, file: str, codec: str) -> None:
    """The other side: one record per line."""
    import confluent_kafka

    lines = Path(file).read_bytes().splitlines(keepends=True)
    producer = confluent_kafka.Producer(
        {
            "bootstrap.servers": servers,
            "enable.idempotence": True,
            "acks": "all",
            "compression.type": codec,
            "linger.ms": 20,
            "queue.buffering.max.messages": 1_000_000,
        }
    )

    whose = [("run", b"bench"), ("writer", b"0" * 32), ("stream", b"stdout")]

    def produce() -> None:
        offset, headers = 0, None
        for line in lines:
            if codec == "zstd":
                headers = [*whose, ("offset", b"%d" % offset)]
                offset += len(line)
            while True:
                try:
                    producer.produce(name, line, key=b"stdout", headers=headers)
                    break
                except BufferError:
                    producer.poll(0.1)
            producer.poll(0)
        assert producer.flush(60) == 0

    measured(produce)


if __name__ == "__main__":
    if sys.argv[1] == "ship":
        ship(*sys.argv[2:])
    elif sys.argv[1] == "confluent":
        confluent(*sys.argv[2:])
    else:
        main(sys.argv[1], sys.argv[2], int((sys.argv[3:] or ["1000000"])[0].replace(",", "")))
