"""Download of one large file against `cat` of the same bytes: ratio in one run.

    python tests/bench/bench_download.py [--lines 1000000]

Both write into a pipe that is read to its end. `startup` is the command on an empty file: what is
left of the time is the download. Memory is the command's greatest resident size.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PRINTER = """
import sys
out = sys.stdout
for first in range(0, int(sys.argv[1]), 1000):
    out.write("".join(
        f"2026-11-23 22:40:01,123 DEBUG azure.core step={n} loss={n * 7919 % 10007} GET /v1\\n"
        for n in range(first, min(first + 1000, int(sys.argv[1])))))
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=1_000_000)
    lines = parser.parse_args().lines
    loghaul = [sys.executable, "-m", "loghaul_ingest"]
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "LOGHAUL_HOME": home, "LOGHAUL_BACKGROUND": "0"}
        for run, count in (("empty", 1), ("large", lines)):
            script = [sys.executable, "-c", PRINTER, str(count)]
            command = [*loghaul, "run", "-q", "--run-id", run, "--", *script]
            with open(Path(home, run), "wb") as file:
                subprocess.run(command, env=environment, stdout=file, check=True)
        subprocess.run([*loghaul, "ingest", "--once"], env=environment, check=True)
        file = str(Path(home, "large"))
        cat = best(["cat", file], environment)
        figures = {}
        for name, options in (("download", ["70_driver_log.txt", "-o", "-"]), ("raw", [])):
            verb = ["download", "RUN", *options] if options else ["logs", "RUN", "--raw"]
            startup, whole = (
                best([*loghaul, *(run if word == "RUN" else word for word in verb)], environment)
                for run in ("empty", "large")
            )
            figures[name] = (startup, whole)
        megabytes = os.path.getsize(file) / 1e6
    print(f"{lines:,} lines, {megabytes:.0f} MB; cat {cat:.3f} s")
    for name, (startup, whole) in figures.items():
        print(
            f"{name}: {whole:.3f} s, start-up {startup:.3f} s, "
            f"{megabytes / (whole - startup):.0f} MB/s; {cat / (whole - startup):.2f}x cat "
            "(goal: 0.5x through the HTTP server)"
        )
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"greatest memory of any process, the worker included: {peak:.0f} MiB")


def best(command, environment):
    """Return the shortest of three runs, in seconds."""
    times = []
    for _ in range(3):
        began = time.perf_counter()
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)
        while process.stdout.read(1 << 20):
            pass
        assert process.wait() == 0
        times.append(time.perf_counter() - began)
    return min(times)


if __name__ == "__main__":
    main()
