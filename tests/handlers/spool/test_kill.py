"""kill -9 of a real writer process at random moments: what it was told is kept, is kept."""

import os
import random
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from loghaul.spool import SpoolReader, abandoned, writers

#: Says on stdout, after each append, how many bytes were accepted so far.
WRITER = """
import os, random, sys
from pathlib import Path
from loghaul.spool import Limits, SpoolWriter

writer = SpoolWriter(Path(sys.argv[1]), {"run.id": "r"}, limits=Limits(reserve_bytes=0))
chosen = random.Random(int(sys.argv[2]))
streams = [writer.stream("log", "events", "log"), writer.stream("out", "text", "out")]
counts = [0, 0]
os.write(1, b"ready\\n")
while True:
    which = chosen.randrange(2)
    line = (b"%d %d " % (which, counts[which])) + b"x" * chosen.randrange(400) + b"\\n"
    if not writer.append(streams[which], line):
        os._exit(3)
    counts[which] += 1
    os.pwrite(3, counts[0].to_bytes(8, "little") + counts[1].to_bytes(8, "little"), 0)
"""


def lines_of(which, data, count):
    """Check the lines of a stream: numbered, whole, at least those that were accepted."""
    lines = data.split(b"\n")
    assert lines.pop() == b""
    assert [b"%d %d" % (which, n) for n in range(len(lines))] == [
        b" ".join(line.split(b" ", 2)[:2]) for line in lines
    ]
    assert count <= len(lines) <= count + 1


def kill_round(tmp_path: Path, seed: int, read_all) -> None:
    root, told = tmp_path / f"spool-{seed}", tmp_path / f"told-{seed}"
    chosen = random.Random(seed)
    with open(told, "wb+") as file:
        command = f"exec {sys.executable} -c '{WRITER}' {root} {seed} 3<>{told}"
        process = subprocess.Popen(["sh", "-c", command], stdout=subprocess.PIPE)
        try:
            assert process.stdout.readline() == b"ready\n"
            time.sleep(chosen.random() * 0.1)
            reader = SpoolReader(writers(root)[0])
            reader.read()
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
            process.stdout.close()
        counts = struct.unpack("<QQ", file.read(16).ljust(16, b"\0"))
    assert abandoned(root) == writers(root)
    found = read_all(writers(root)[0])
    for which, name in enumerate(("log", "out")):
        data = found.data(name)
        lines_of(which, data, counts[which])
        assert found.ends[name].length == len(data)
        assert found.ends[name].cause == "lost"
    assert found.gaps == {}


def test_a_killed_writer_loses_no_accepted_line(tmp_path, read_all):
    for seed in range(10):
        kill_round(tmp_path, seed, read_all)


@pytest.mark.slow
def test_a_hundred_killed_writers_lose_no_accepted_line(tmp_path, read_all):
    for seed in range(10, 110):
        kill_round(tmp_path, seed, read_all)


def test_the_script_of_this_test_can_fail(tmp_path):
    with pytest.raises(AssertionError):
        lines_of(0, b"0 0 x\n0 2 x\n", 2)
    with pytest.raises(AssertionError):
        lines_of(0, b"0 0 x\n", 2)
    assert os.path.exists(sys.executable)
