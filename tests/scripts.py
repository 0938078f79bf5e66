"""Real scripts under `loghaul run` for a ledger: each notes the lines that were accepted from it.

A line says its number and its checksum. It is noted, in a file of the script's own, after `print`
came back: what is noted must be found, once, in order, whoever of the run is killed.
"""

import os
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path

from loghaul_ingest.errors import StoreError
from loghaul_ingest.pieces import Hole, pieces
from loghaul_ingest.stores import open_reader

SCRIPT = """
import os, sys, time, zlib
notes = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
number = 0
while not os.path.exists(sys.argv[2]):
    line = "script %06d" % number
    line += " %08x" % zlib.crc32(line.encode())
    print(line)
    os.write(notes, line.encode() + b"\\n")
    number += 1
    if number % 10 == 0:
        time.sleep(0.05)
"""
#: Who of a run is killed together.
ROLES = (("script",), ("guard",), ("pump",), ("guard", "script"))


class Script:
    """A run of a script that prints until `end`."""

    def __init__(self, folder, settings, run):
        self.settings, self.run = settings, run
        self._notes, self._stop = folder / f"{run}.noted", folder / f"{run}.stop"
        (folder / "script.py").write_text(SCRIPT)
        command = [sys.executable, "-m", "loghaul_ingest", "run", "-q", "--run-id", run, "--"]
        command += [sys.executable, "script.py", self._notes, self._stop]
        # Whether it is in Kafka at the end of a run is not the question: the ledger asks later.
        variables = {**settings.environment(), "LOGHAUL_DRAIN_SECONDS": "0"}
        self.guard = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until = time.monotonic() + 20
        while not self.noted() or set(self.pids()) != {"guard", "pump", "script"}:
            assert time.monotonic() < until, "the script does not begin"
            time.sleep(0.02)
        self._born = self.pids()

    def pids(self):
        """Return {role: pid} of what lives, while the guard does."""
        found = {}
        for folder in Path("/proc").iterdir():
            if not folder.name.isdigit():
                continue
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                words = (folder / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            pid = int(folder.name)
            if pid == self.guard.pid:
                found["guard"] = pid
            elif parent == self.guard.pid and any(words):
                found["pump" if b"loghaul_ingest" in words else "script"] = pid
        return found

    def kill(self, roles):
        """Kill -9 these of the run."""
        now = {**self._born, **self.pids()}
        for role in roles:
            try:
                os.kill(now[role], signal.SIGKILL)
            except ProcessLookupError:
                pass

    def end(self):
        """Let the script end, and the run with it."""
        self._stop.touch()
        self.guard.wait(60)

    def noted(self):
        """Return the lines that were accepted; not one that it was killed in the middle of."""
        try:
            return self._notes.read_bytes().split(b"\n")[:-1]
        except FileNotFoundError:
            return []

    def check(self, seconds=60):
        """Wait until the run is whole in the store, and compare."""
        until = time.monotonic() + seconds
        while (lines := self._stored()) is None or len(lines) < len(self.noted()):
            where = f"{self.run}: {lines and len(lines)} lines of {len(self.noted())}"
            assert time.monotonic() < until, where
            time.sleep(0.2)
        assert lines == [line_of(number) for number in range(len(lines))], self.run
        assert len(lines) <= len(self.noted()) + 1, "a line that was never printed"

    def _stored(self):
        """Return the lines in the store; None while it lacks the stream's end, or bytes before."""
        try:
            reader = open_reader(self.settings.store)
        except StoreError:
            return None
        try:
            rows = [row for row in reader.streams(self.run) if row.facts.stream.stream == "stdout"]
            if not rows or not rows[0].facts.end:
                return None
            (row,) = rows
            if row.stored < row.facts.end.length:
                return None
            found = list(pieces(reader, row.facts, 0))
            assert not [item for item in found if isinstance(item, Hole)], self.run
            data = b"".join(item.data for item in found)
            assert row.stored == len(data), "a byte is stored twice"
            return data.splitlines()
        except StoreError:
            return None
        finally:
            reader.close()


def line_of(number):
    """Return the line of that number."""
    line = b"script %06d" % number
    return line + b" %08x" % zlib.crc32(line)
