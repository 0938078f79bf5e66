"""A backlog of 10 M lines: what shipper and worker take of memory, and of CPU per line.

    python tests/bench/bench_backlog.py KAFKA OPENSEARCH [lines]     # default 10,000,000

KAFKA and OPENSEARCH are DSNs of running engines (`sh deploy/services start`), whose topic and
prefix are replaced by new ones. So many lines lie in a spool while nothing ships; `loghaul ship
--once` moves them to Kafka, where they lie while nobody reads; `loghaul ingest --once` moves them
to OpenSearch. Largest size and CPU are those of that process, by the kernel. The same is done with
100,000 lines; what both cost with nothing to do is subtracted from the CPU.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

FEW, READ_BYTES, WRITERS, PARTITIONS = 100_000, 4096, 4, 4
#: Goals, in MB, and of the cost per line among each other.
SHIPPER_MB, WORKER_MB, RATIO = 60, 250, 1.2


@dataclass
class Cost:
    """Of a process: CPU in seconds, largest resident size in MB."""

    cpu: float
    rss: int


def main(kafka: str, opensearch: str, lines: int) -> None:
    """Measure an empty pipeline, a small backlog and a large one; print them."""
    import corpus

    data = corpus.corpus(FEW // WRITERS)
    found = {count: backlog(kafka, opensearch, data, count // FEW) for count in (0, FEW, lines)}
    size = len(data) * WRITERS / FEW
    print(f"{lines:,} lines of {size:.0f} bytes, {WRITERS} writers, zstd, acks=all")
    for name, goal in (("ship", SHIPPER_MB), ("ingest", WORKER_MB)):
        empty = found[0][name].cpu
        each = {n: 1e6 * (found[n][name].cpu - empty) / n for n in (FEW, lines)}
        for count in (FEW, lines):
            rss, cost = found[count][name].rss, each[count]
            print(f"{name:7} {count:>11,} lines {cost:6.2f} us CPU per line {rss:>5} MB")
        ratio = each[lines] / each[FEW]
        print(f"{name:7} {ratio:.2f}x the cost per line (goal {RATIO}x), goal {goal} MB")


def backlog(kafka: str, opensearch: str, data: bytes, times: int) -> dict[str, Cost]:
    """Let so many times the data wait in a spool, then in a topic; return what moving it cost."""
    name = f"bench-{uuid.uuid4().hex[:8]}"
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        for _ in range(WRITERS):
            spool(home / "spool", data, times)
        environment = {
            **os.environ,
            "LOGHAUL_HOME": folder,
            "LOGHAUL_SPOOL_MAX_BYTES": "64GiB",
            "LOGHAUL_TRANSPORT": topic(kafka, name),
            "LOGHAUL_STORE": f"{opensearch.rpartition('/')[0]}/{name}",
            "LOGHAUL_GROUP": name,
        }
        return {command: run(command, environment) for command in ("ship", "ingest")}


def spool(root: Path, data: bytes, times: int) -> None:
    """As a pipe gives it: reads of about 4 KiB. At least one line each, so that a run is there."""
    from loghaul.spool import Limits, SpoolWriter

    writer = SpoolWriter(root, {"run.id": "bench"}, limits=Limits(64 * 2**30, 0))
    stream = writer.stream("stdout", "text", "azureml-logs/70_driver_log.txt")
    assert writer.append(stream, b"begun\n")
    for _ in range(times):
        for at in range(0, len(data), READ_BYTES):
            assert writer.append(stream, data[at : at + READ_BYTES])
    writer.end("exit", {"exit_code": 0})
    writer.close()


def topic(kafka: str, name: str) -> str:
    """Make a topic; return its DSN."""
    from loghaul.transports.address import parse
    from loghaul_ingest.topics import Plan, set_up

    dsn = f"{kafka.rpartition('/')[0]}/{name}"
    asyncio.run(set_up(parse(dsn), Plan(PARTITIONS)))
    return dsn


def run(command: str, environment: dict[str, str]) -> Cost:
    """Run `loghaul COMMAND --once`; return what it took."""
    process = subprocess.Popen(
        [sys.executable, "-m", "loghaul_ingest", command, "--once"], env=environment
    )
    largest = 0
    while True:
        pid, status, used = os.wait4(process.pid, os.WNOHANG)
        if pid:
            assert status == 0, (command, status)
            return Cost(used.ru_utime + used.ru_stime, largest // 1024)
        # ru_maxrss would tell of this process, which that one was forked from.
        peak = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())
        largest = max(largest, int(peak[1]) if peak else 0)
        time.sleep(0.05)


if __name__ == "__main__":
    given = sys.argv[1:]
    main(given[0], given[1], int(given[2]) if len(given) > 2 else 10_000_000)
