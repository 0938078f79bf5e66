"""Download of one large file against `cat` of the same bytes: ratio in one run.

    python tests/bench/bench_download.py [--lines 1000000]

All write into a pipe that is read to its end. The peer is curl, fetching the same bytes from a
small Python HTTP server that hands out what `cat` prints; a bare `cat` stands beside it. `startup`
is the command on an empty file: what is left of the time is the download. Variants alternate; the
best of nine is told. Memory is the command's greatest resident size.
"""

import argparse
import http.server
import multiprocessing
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

ROUNDS = 9
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
        with served(file) as address:
            cat, http, figures = measure(loghaul, file, address, environment)
        megabytes = os.path.getsize(file) / 1e6
    print(f"{lines:,} lines, {megabytes:.0f} MB; cat {cat:.3f} s, through HTTP {http:.3f} s")
    for name, (startup, whole) in figures.items():
        print(
            f"{name}: {whole:.3f} s, start-up {startup:.3f} s, "
            f"{megabytes / (whole - startup):.0f} MB/s; {http / (whole - startup):.2f}x cat "
            f"through HTTP (goal: 0.5x), {cat / (whole - startup):.2f}x a bare cat"
        )
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"greatest memory of any process, the worker included: {peak:.0f} MiB")


class CatServer(http.server.BaseHTTPRequestHandler):
    """Answers every request with what `cat FILE` prints."""

    file = ""

    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        with subprocess.Popen(["cat", self.file], stdout=subprocess.PIPE) as process:
            shutil.copyfileobj(process.stdout, self.wfile)

    def log_message(self, *_):
        """Say nothing."""


@contextmanager
def served(file):
    """Serve a file from a process of its own; gives the address."""
    CatServer.file = file
    server = http.server.HTTPServer(("127.0.0.1", 0), CatServer)
    process = multiprocessing.get_context("fork").Process(target=server.serve_forever, daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        process.kill()
        process.join()
        server.server_close()


def measure(loghaul, file, address, environment):
    """Return (seconds of cat, of curl, {name: (start-up, whole)})."""
    download = ["70_driver_log.txt", "-o", "-"]
    variants = {"cat": ["cat", file], "http": ["curl", "-s", address]}
    for run in ("empty", "large"):
        variants["download", run] = [*loghaul, "download", run, *download]
        variants["raw", run] = [*loghaul, "logs", run, "--raw"]
    seconds = {name: [] for name in variants}
    for _ in range(ROUNDS):
        for name, command in variants.items():
            seconds[name].append(timed(command, environment))
    best = {name: min(found) for name, found in seconds.items()}
    figures = {n: (best[n, "empty"], best[n, "large"]) for n in ("download", "raw")}
    return best["cat"], best["http"], figures


def timed(command, environment):
    began = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)
    while process.stdout.read(1 << 20):
        pass
    assert process.wait() == 0
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
