"""print -> visible in `logs -f`: run it as `python tests/bench/bench_live.py [--lines 200]`.

A script prints the time at which it prints; a follower beside it notes when each line comes out.
With engines (`eval "$(sh deploy/services start)"`) the run goes through Kafka, and a worker stores
it in OpenSearch meanwhile; the follower has a home of its own, as on another machine. Its CPU is
measured, too: while lines come, and while the script is silent for `--idle` seconds behind them.
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
time.sleep(float(sys.argv[2]))
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=200)
    parser.add_argument("--idle", type=float, default=10.0)
    arguments = parser.parse_args()
    lines, idle = arguments.lines, arguments.idle
    loghaul = [sys.executable, "-m", "loghaul_ingest"]
    # The shipper ends by itself, a moment later.
    made = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    with made as home, tempfile.TemporaryDirectory() as elsewhere:
        os.environ["LOGHAUL_HOME"] = home
        transport = prepare().transport
        environment = dict(os.environ)
        worker = subprocess.Popen([*loghaul, "ingest"]) if transport else None
        script = [sys.executable, "-c", PRINTER, str(lines), str(idle)]
        runner = subprocess.Popen(
            [*loghaul, "run", "-q", "--run-id", "live", "--", *script],
            env=environment,
            stdout=subprocess.DEVNULL,
        )
        while not Path(home, "spool").exists():
            time.sleep(0.01)
        if transport:
            environment["LOGHAUL_HOME"] = elsewhere
        delays, busy, still = watch([*loghaul, "logs", "live", "-f"], environment, lines, idle)
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
    print(f"CPU of the follower: {busy:.1%} of a core while lines come, {still:.1%} while none do")


def watch(command, environment, lines, idle):
    """Return the delays of the lines that were printed after the follower was up, and its CPU."""
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
            if not delays:
                began, used = time.time(), cpu_seconds(follower.pid)
            delays.append(time.time() - printed)
        if seen == lines:
            break
    before, ended = cpu_seconds(follower.pid), time.time()
    busy = (before - used) / (ended - began)
    time.sleep(idle * 0.8)
    still = (cpu_seconds(follower.pid) - before) / (time.time() - ended)
    more = len(follower.stdout.readlines())
    assert follower.wait() == 0
    assert seen + more == lines, f"{seen + more} of {lines} lines were seen"
    return delays, busy, still


def cpu_seconds(pid):
    """Return the CPU time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
