"""What `loghaul run` costs a script that prints: wall time against a plain pipe to `cat > file`.

    python tests/bench/bench_run.py [--lines 1000000] [--rounds 5]

Both print line by line, as Python does under `loghaul run`; a third, with Python's own block
buffering into the same pipe, stands beside it for honesty. Variants alternate, medians are told.
The worker is off: on a machine with two cores it would be measured too (`--worker` leaves it on).
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PRINTS = """
import sys
if {line_buffered}: sys.stdout.reconfigure(line_buffering=True)
for step in range({lines}):
    print("step", step, "loss", 0.123456, "lr 0.001 a line of some hundred bytes as trainers write")
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--worker", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ.pop("PYTHONUNBUFFERED", None)  # it makes every argument of print a write
        os.environ["LOGHAUL_HOME"] = folder
        os.environ["LOGHAUL_BACKGROUND"] = str(int(options.worker))
        os.environ["LOGHAUL_SPOOL_MAX_BYTES"] = "4GiB"
        measure(options, Path(folder))


def measure(options: argparse.Namespace, folder: Path) -> None:
    lines = PRINTS.format(line_buffered=True, lines=options.lines)
    blocks = PRINTS.format(line_buffered=False, lines=options.lines)
    loghaul = [str(Path(sys.executable).with_name("loghaul")), "run", "--"]
    variants = {
        "cat": ([sys.executable, "-c", lines], "| cat > out"),
        "loghaul": ([*loghaul, sys.executable, "-c", lines], "> out"),
        "loghaul | cat": ([*loghaul, sys.executable, "-c", lines], "| cat > out"),
        "cat, block-buffered": ([sys.executable, "-c", blocks], "| cat > out"),
    }
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(options.rounds):
        for name, (command, tail) in variants.items():
            subprocess.run(f"rm -rf {folder}/spool out", shell=True, check=True, cwd=folder)
            start = time.perf_counter()
            subprocess.run(["sh", "-c", f'"$@" {tail}', "sh", *command], check=True, cwd=folder)
            seconds[name].append(time.perf_counter() - start)
    floor = statistics.median(seconds["cat"])
    for name, found in seconds.items():
        median = statistics.median(found)
        print(f"{name:22} {median:6.2f} s  {median / floor:5.2f}x  {[round(x, 2) for x in found]}")


if __name__ == "__main__":
    main()
