"""Memory of every process while a run prints and logs as fast as it can: largest size of each.

    python tests/bench/bench_memory.py [--lines 1000000]
    eval "$(sh deploy/services start)"; python tests/bench/bench_memory.py      # with a shipper

`own` is what the process alone takes from the machine (anonymous memory), `resident` counts the
mapped files too: spool segments and libraries, which the system takes back when it needs to. What
the handler adds is told against the same script with a NullHandler, outside of `loghaul run`.
Half of the lines lie in the spool before shipper and worker start: they have a backlog.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from places import prepare
from processes import children, peak_mb, private_mb

LOGS = """
import logging, re, sys
import loghaul
handler = loghaul.Handler() if sys.argv[2] == "ours" else logging.NullHandler()
logging.basicConfig(level=logging.DEBUG, handlers=[handler])
for step in range(int(sys.argv[1])):
    logging.debug("Request URL: %s step %d", "https://mlworkspace.blob.core.windows.net/a/b", step)
print(re.search(r"Anonymous:\\s+(\\d+)", open("/proc/self/smaps_rollup").read())[1])
"""
PRINTS = """
import sys
for step in range(int(sys.argv[1])):
    print("step", step, "loss", 0.123456, "lr 0.001 a line of some hundred bytes as trainers write")
"""
GOALS = {"handler": 5, "shipper": 60, "worker": 250}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--lines", type=int, default=1_000_000)
    lines = options.parse_args().lines
    with tempfile.TemporaryDirectory(prefix="bench-memory-") as home:
        os.environ.update(LOGHAUL_HOME=home, LOGHAUL_SPOOL_MAX_BYTES="8GiB")
        os.environ.update(LOGHAUL_BACKGROUND="0", LOGHAUL_DRAIN_SECONDS="0")
        settings = prepare()
        logged, plain = (logs(which, min(lines, 300_000)) for which in ("ours", "null"))
        print(f"handler   {logged - plain:8.1f} MiB own, of a script of {plain:.0f} (goal: 5)")
        run(lines // 2)
        peaks = together(lines // 2, bool(settings.transport))
    for name, (own, resident) in peaks.items():
        goal = f" (goal: {GOALS[name]})" if name in GOALS else ""
        print(f"{name:10}{own:8.1f} MiB own {resident:8} MiB resident{goal}")


def logs(which: str, lines: int) -> float:
    """Return the MiB of a script that logs."""
    command = [sys.executable, "-c", LOGS, str(lines), which]
    home = os.environ["LOGHAUL_HOME"]  # where there are no settings to be read
    done = subprocess.run(command, check=True, capture_output=True, cwd=home)
    return int(done.stdout) / 1024


def start(*arguments: str) -> subprocess.Popen[bytes]:
    """Start a command of ours."""
    command = [sys.executable, "-m", "loghaul_ingest", *arguments]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def run(lines: int) -> None:
    assert start("run", "-q", "--", sys.executable, "-c", PRINTS, str(lines)).wait() == 0


def together(lines: int, ships: bool) -> dict[str, tuple[float, int]]:
    """Let all processes work on a backlog and a run; return name -> (own, resident) MiB."""
    guard = start("run", "-q", "--", sys.executable, "-c", PRINTS, str(lines))
    behind = {"worker": start("ingest")} | ({"shipper": start("ship")} if ships else {})
    peaks: dict[str, tuple[float, int]] = {}
    until = time.monotonic() + 120
    idle = time.monotonic() + 10
    while time.monotonic() < min(until, idle):
        if guard.poll() is None:
            idle = time.monotonic() + 15  # for what is behind the script
        for name, pid in [*captured(guard.pid), *((n, p.pid) for n, p in behind.items())]:
            try:
                own, resident = private_mb(pid), peak_mb(pid)
            except (OSError, TypeError):
                continue  # it has ended
            peaks[name] = (max(peaks.get(name, (0.0, 0))[0], own), resident)
        time.sleep(0.05)
    for process in behind.values():
        process.terminate()
        process.wait()
    return peaks


def captured(guard: int) -> list[tuple[str, int]]:
    """Return guard and pump; the pump is the guard's fork, the script runs something else."""
    try:
        own = Path(f"/proc/{guard}/cmdline").read_bytes()
        forks = [pid for pid in children(guard) if same(pid, own)]
    except OSError:
        return []
    return [("guard", guard), *(("pump", pid) for pid in forks)]


def same(pid: int, command: bytes) -> bool:
    return Path(f"/proc/{pid}/cmdline").read_bytes() == command


if __name__ == "__main__":
    main()
