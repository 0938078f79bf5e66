"""A ledger: writers whose every line says whose it is, its number and its checksum.

`Ledger.write` captures, `Ledger.check` reads the store and compares: missing, repeated, reordered
or altered bytes are all the same failure here, since a stream is compared as a whole.
"""

import os
import subprocess
import sys
import threading
import time
import zlib

from loghaul.spool import Limits, SpoolWriter
from loghaul_ingest.errors import StoreError
from loghaul_ingest.pieces import Hole, pieces
from loghaul_ingest.stores import open_reader


class Scribe:
    """One writer with a stream or two; remembers what it wrote."""

    def __init__(self, spool, run, number, streams=("stdout", "stderr")):
        facts = {"run.id": run, "run.node": f"node-{number}", "role": "process"}
        self.writer = SpoolWriter(spool, facts, limits=Limits(2**30, 0))
        self.run, self.number, self.lines = run, number, 0
        self.handles = {n: self.writer.stream(n, "text", f"{number}-{n}.txt") for n in streams}
        self.written = {name: bytearray() for name in streams}

    def write(self, count):
        """Write so many lines to each stream."""
        for name, handle in self.handles.items():
            for number in range(self.lines, self.lines + count):
                body = f"{self.run} {self.number} {name} {number} "
                line = f"{body}{zlib.crc32(body.encode()):08x}\n".encode()
                if number % 17 == 0:
                    line = b"\xff\x00" + line[:-1] + b"\r"
                assert self.writer.append(handle, line)
                self.written[name] += line
        self.lines += count

    def end(self):
        """End in order."""
        self.writer.end("exit", {"exit_code": 0})
        self.writer.close()


class Ledger:
    """Scribes of one run, and the processes that move what they write."""

    def __init__(self, settings):
        self.settings, self.run = settings, "ledger"
        self.scribes, self.processes = [], []

    def scribe(self, **options):
        """Start a writer."""
        self.scribes.append(Scribe(self.settings.spool, self.run, len(self.scribes), **options))
        return self.scribes[-1]

    def start(self, command, *options, **variables):
        """Start `loghaul ship` or `loghaul ingest`."""
        environment = {**os.environ, **self.settings.environment(), **variables}
        process = subprocess.Popen(
            [sys.executable, "-m", "loghaul_ingest", command, *options],
            env=environment,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        self.processes.append(process)
        return process

    def close(self):
        """End everything that still runs."""
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
            process.stderr.close()
        for scribe in self.scribes:
            scribe.writer.close()

    def wait_until_stored(self, seconds=60):
        """Wait until the store has as many bytes as were written."""
        until = time.monotonic() + seconds
        wanted = sum(len(data) for s in self.scribes for data in s.written.values())
        stored = -1
        while time.monotonic() < until:
            stored = sum(row.stored for row in self._rows())
            if stored >= wanted:
                return
            for process in self.processes:
                code = process.poll()
                assert code in (None, 0, -9, -15), process.stderr.read().decode()
            time.sleep(0.1)
        raise AssertionError(f"{stored} of {wanted} bytes are stored after {seconds} s")

    def settle(self, seconds=90):
        """Wait until all is stored and no folder stays in the spool; then check."""
        self.wait_until_stored(seconds)
        until = time.monotonic() + 30
        while any(len(path.name) == 32 for path in self.settings.spool.iterdir()):
            assert time.monotonic() < until, "folders stay in the spool"
            time.sleep(0.1)
        self.check()

    def wait_until_ended(self, seconds=60):
        """Wait until the store knows the end of every stream."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            rows = self._rows()
            if rows and all(row.facts.end for row in rows):
                return
            time.sleep(0.1)
        raise AssertionError(f"not every stream has ended after {seconds} s")

    def _rows(self):
        """What the store has; nothing while it is down or just coming up."""
        try:
            reader = open_reader(self.settings.store)
        except StoreError:
            return []
        try:
            return reader.streams(self.run)
        except StoreError:
            return []
        finally:
            reader.close()

    def check(self, ended=True):
        """Compare the store with what was written."""
        reader = open_reader(self.settings.store)
        try:
            rows = {row.facts.stream: row for row in reader.streams(self.run)}
            wanted = {
                (scribe.writer.id, name): bytes(data)
                for scribe in self.scribes
                for name, data in scribe.written.items()
            }
            assert {(key.writer, key.stream) for key in rows} == set(wanted)
            for key, row in rows.items():
                expected = wanted[key.writer, key.stream]
                found = list(pieces(reader, row.facts, 0))
                assert not [item for item in found if isinstance(item, Hole)], key
                assert b"".join(item.data for item in found) == expected, key
                assert row.stored == len(expected), "a byte is stored twice"
                if ended:
                    assert row.facts.end.length == len(expected)
        finally:
            reader.close()


class Load:
    """Writers that write on in a thread while a test breaks things."""

    def __init__(self, ledger, writers=3, lines_per_second=2000):
        self._scribes = [ledger.scribe() for _ in range(writers)]
        self._pace = 20 / lines_per_second
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        while not self._stop.wait(self._pace):
            for scribe in self._scribes:
                scribe.write(20)

    def end(self):
        self._stop.set()
        self._thread.join()
        for scribe in self._scribes:
            scribe.end()
