"""print -> visible in `logs -f`: run it as `python tests/bench/bench_live.py [--lines 200]`.

A script prints the time at which it prints; a follower beside it notes when each line comes out.
With engines (`eval "$(sh deploy/services start)"`) the run goes through Kafka, and a worker stores
it in OpenSearch meanwhile.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from places import prepare

PRINTER = """
import random, sys, time
rng = random.Random(1)
for n in range(int(sys.argv[1])):
    print("tick", n, time.time(), flush=True)
    time.sleep(rng.uniform(0.005, 0.06))
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=200)
    lines = parser.parse_args().lines
    loghaul = [sys.executable, "-m", "loghaul_ingest"]
    with tempfile.TemporaryDirectory() as home:
        os.environ["LOGHAUL_HOME"] = home
        transport = prepare().transport
        environment = dict(os.environ)
        worker = subprocess.Popen([*loghaul, "ingest"]) if transport else None
        script = [sys.executable, "-c", PRINTER, str(lines)]
        runner = subprocess.Popen(
            [*loghaul, "run", "-q", "--run-id", "live", "--", *script],
            env=environment,
            stdout=subprocess.DEVNULL,
        )
        while not Path(home, "spool").exists():
            time.sleep(0.01)
        delays = watch([*loghaul, "logs", "live", "-f"], environment, lines)
        runner.wait()
        if worker is not None:
            worker.terminate()
            worker.wait()
    delays.sort()
    figures = {
        name: delays[int(len(delays) * part)] for name, part in (("p50", 0.5), ("p99", 0.99))
    }
    print(f"{len(delays)} live lines of {lines}", end="; ")
    print("; ".join(f"{name} {delay * 1000:.0f} ms" for name, delay in figures.items()), end="; ")
    print(f"max {delays[-1] * 1000:.0f} ms (goal: p99 <= 300 ms)")


def watch(command, environment, lines):
    """Return the delays of the lines that were printed after the follower was up."""
    for _ in range(300):
        follower = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        first = follower.stdout.readline()
        if first:
            break
        follower.wait()
    up = time.time()
    seen, delays = 1, []
    for line in follower.stdout:
        seen += 1
        printed = float(line.split()[2])
        if printed > up:
            delays.append(time.time() - printed)
    assert follower.wait() == 0
    assert seen == lines, f"{seen} of {lines} lines were seen"
    return delays


if __name__ == "__main__":
    main()
