"""Cost per line of embedded ingest as a run grows: 100,000 lines against ten million, in one run.

    python tests/bench/bench_scale.py [LINES ...]        # default 100000 1000000 10000000

Each size is a run of its own, spooled whole and taken in by a process of its own; CPU is that of
the process from its first line to its end, all threads, its start left out. No line comes twice.
Read the ratios: the machine is shared.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import corpus
from processes import peak_mb

STEP_LINES = 100_000
READ_BYTES = 4096


def main(sizes: list[int]) -> None:
    costs = []
    print(
        f"{'lines':>12}{'lines/s':>12}{'us CPU/line':>14}{'peak MiB':>10}{'bytes per raw byte':>20}"
    )
    for lines in sizes:
        with tempfile.TemporaryDirectory(prefix="bench-scale-") as home:
            raw = spool(Path(home, "spool"), lines)
            done = subprocess.run(
                [sys.executable, __file__, "take-in", home], capture_output=True, check=True
            )
            found = json.loads(done.stdout)
            stored = sum(one.stat().st_size for one in Path(home, "store").rglob("*.db*"))
        costs.append(found["cpu"] / lines)
        print(
            f"{lines:12,}{lines / found['wall']:12,.0f}{1e6 * costs[-1]:14.2f}{found['peak']:10}"
            f"{stored / raw:20.3f}"
        )
    print(f"CPU per line, most against least lines: {costs[-1] / costs[0]:.2f}x (goal: 1.2x)")


def spool(root: Path, lines: int) -> int:
    """Write so many lines as a pipe gives them; return their bytes."""
    from loghaul.spool import Limits, SpoolWriter

    writer = SpoolWriter(root, {"run.id": "bench"}, limits=Limits(32 * 2**30, 0))
    stream = writer.stream("stdout", "text", "azureml-logs/70_driver_log.txt")
    source, length = corpus.lines(lines, 1), 0
    for _ in range(0, lines, STEP_LINES):
        data = b"".join(islice(source, STEP_LINES))
        length += len(data)
        for at in range(0, len(data), READ_BYTES):
            assert writer.append(stream, data[at : at + READ_BYTES])
    writer.end("exit", {"exit_code": 0})
    writer.close()
    return length


def take_in(home: str) -> None:
    """Store what is in the spool of a home; print what it cost."""
    import os

    from loghaul import config
    from loghaul_ingest import worker

    settings = config.load(home=home, spool=f"{home}/spool", store=f"sqlite://{home}/store")
    wall, cpu = time.perf_counter(), time.process_time()
    worker.once(settings, compact_seconds=0)
    found = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    print(json.dumps({**found, "peak": peak_mb(os.getpid())}))


if __name__ == "__main__":
    if sys.argv[1:2] == ["take-in"]:
        take_in(sys.argv[2])
    else:
        main([int(word) for word in sys.argv[1:]] or [100_000, 1_000_000, 10_000_000])
