"""`loghaul run` under SIGKILL of each of its processes, at moments drawn from a seed."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from loghaul.spool import SpoolReader, writers

LOGHAUL = [str(Path(sys.executable).with_name("loghaul")), "run", "-q", "--"]
LINES = 30_000
SCRIPT = """
import os, sys, time
sys.stdout.reconfigure(line_buffering=True)
lines, gate = int(sys.argv[1]), sys.argv[2:]
for number in range(lines):
    while number == lines // 2 and gate and not os.path.exists(gate[0]):
        time.sleep(0.001)
    print("line", number, "of the script")
    if number % 7 == 0:
        sys.stderr.write("error %d\\n" % number)
sys.exit(5)
"""
OUT = b"".join(b"line %d of the script\n" % number for number in range(LINES))
ERR = b"".join(b"error %d\n" % number for number in range(0, LINES, 7))
ROUNDS = [*range(10), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(10, 100))]


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Start the script under `loghaul run`, its output piped to files by `cat`, in a group.

    gate   a file without which the script stops halfway
    """
    monkeypatch.setenv("LOGHAUL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LOGHAUL_BACKGROUND", "0")
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    started = []

    def go(files=False, gate=()):
        command = [*LOGHAUL, sys.executable, "-c", SCRIPT, str(LINES), *map(str, gate)]
        outputs = [(tmp_path / name).open("wb") for name in ("out", "err")]
        readers = []
        if not files:
            readers = [
                subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=file) for file in outputs
            ]
        targets = [reader.stdin for reader in readers] or outputs
        process = subprocess.Popen(
            command, stdout=targets[0], stderr=targets[1], start_new_session=True
        )
        for file in {*outputs, *targets}:
            file.close()
        started.append((process, readers))
        return process, readers

    yield go
    for process, readers in started:
        for one in (process, *readers):
            if one.poll() is None:
                one.kill()
            one.wait()


def children(pid):
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def find(guard, wanted, seconds=5.0):
    """Return a child of the guard: its pump (a session of its own) or its command."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for pid in children(guard):
            try:
                is_pump = os.getsid(pid) == pid
            except ProcessLookupError:
                continue
            if is_pump == (wanted == "pump"):
                return pid
    return None


def kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except (ProcessLookupError, TypeError):
        pass


def captured(home):
    """Return (bytes by stream, gaps, ends) of the only writer, once it has ended."""
    [directory] = writers(home / "spool")
    until = time.monotonic() + 20
    while True:
        reader = SpoolReader(directory)
        data, gaps, ends = {}, [], {}
        while entries := reader.read(1 << 20):
            for entry in entries:
                if entry.end is not None:
                    ends[entry.stream] = entry.end
                elif entry.gap is not None:
                    gaps.append((entry.stream, entry.gap))
                else:
                    found = data.setdefault(entry.stream, bytearray())
                    assert entry.offset == len(found), "no byte is there twice"
                    found += entry.data
        if ends or time.monotonic() > until:
            return {name: bytes(found) for name, found in data.items()}, gaps, ends
        time.sleep(0.02)


def finish(process, readers):
    code = process.wait(timeout=30)
    for reader in readers:
        reader.wait(timeout=30)
    return code


@pytest.mark.parametrize("files", [False, True], ids=["pipes", "files"])
@pytest.mark.parametrize("seed", ROUNDS)
def test_a_killed_pump_costs_no_byte_on_either_side(start, tmp_path, seed, files):
    chance = random.Random(seed)
    process, readers = start(files)
    for _ in range(chance.choice((1, 2))):
        pump = find(process.pid, "pump")
        time.sleep(chance.uniform(0.02, 0.12))
        kill(pump)
    code = finish(process, readers)

    data, gaps, ends = captured(tmp_path / "home")

    assert code == 5
    assert (tmp_path / "out").read_bytes() == OUT
    assert (tmp_path / "err").read_bytes() == ERR
    assert (data["stdout"], data["stderr"], gaps) == (OUT, ERR, [])
    assert hashlib.sha256(OUT).hexdigest() == ends["stdout"].sha256


@pytest.mark.parametrize("lived", [0, 0.0005, 0.002, 0.005, 0.01, 0.03])
def test_after_three_deaths_the_output_is_copied_and_the_rest_is_a_gap(start, tmp_path, lived):
    gate = tmp_path / "gate"
    process, readers = start(gate=[gate])
    killed = set()
    while len(killed) < 3:
        # A pump that was killed is there until the guard has seen it: once each.
        if (pump := find(process.pid, "pump")) not in killed:
            time.sleep(lived)
            kill(pump)
            killed.add(pump)
    gate.touch()
    code = finish(process, readers)

    data, gaps, ends = captured(tmp_path / "home")

    assert (
        code,
        (tmp_path / "out").read_bytes(),
        (tmp_path / "err").read_bytes(),
    ) == (5, OUT, ERR)
    missing = sum(gap.length for name, gap in gaps if name == "stdout")
    assert len(OUT) == len(data.get("stdout", b"")) + missing == ends["stdout"].length
    assert missing > 0
    assert "only copied: the pump had died 3 times" in {gap.reason for _, gap in gaps}


@pytest.mark.parametrize("seed", ROUNDS)
def test_what_a_killed_command_had_written_is_there_once(start, tmp_path, seed):
    process, readers = start()
    command = find(process.pid, "command")
    time.sleep(random.Random(seed).uniform(0.02, 0.15))
    kill(command)
    code = finish(process, readers)

    data, gaps, ends = captured(tmp_path / "home")

    out = (tmp_path / "out").read_bytes()
    assert OUT.startswith(out)
    assert (out, []) == (data.get("stdout", b""), gaps)
    assert (code, ends["stdout"].detail.get("exit_code")) in ((137, 137), (5, 5))


@pytest.mark.parametrize("whom", ["guard", "group"])
@pytest.mark.parametrize("seed", ROUNDS[:5])
def test_the_pump_drains_to_the_end_when_the_others_are_killed(start, tmp_path, seed, whom):
    process, readers = start()
    find(process.pid, "command")
    time.sleep(random.Random(seed).uniform(0.0, 0.1))
    if whom == "guard":
        process.kill()
    else:
        os.killpg(process.pid, signal.SIGKILL)
    finish(process, readers)

    data, gaps, ends = captured(tmp_path / "home")

    out = (tmp_path / "out").read_bytes()
    assert OUT.startswith(out)
    assert (out, []) == (data.get("stdout", b""), gaps)
    assert ends["stdout"].sha256 == hashlib.sha256(out).hexdigest()
    # A command that was through before the kill had told how it ended.
    assert ends["stdout"].cause == "lost" or out == OUT


def test_a_full_spool_leaves_the_output_alone_and_is_a_gap(start, tmp_path, monkeypatch):
    monkeypatch.setenv("LOGHAUL_SPOOL_MAX_BYTES", "300000")
    process, readers = start()
    code = finish(process, readers)

    data, gaps, ends = captured_with_gaps(tmp_path / "home")

    assert (code, (tmp_path / "out").read_bytes()) == (5, OUT)
    missing = sum(gap.length for name, gap in gaps if name == "stdout")
    assert missing > 0
    assert len(data["stdout"]) + missing == ends["stdout"].length == len(OUT)
    assert {gap.reason for _, gap in gaps if gap.reason} >= {"spool full"}


def captured_with_gaps(home):
    [directory] = writers(home / "spool")
    reader, data, gaps, ends = SpoolReader(directory), {}, [], {}
    while entries := reader.read(1 << 20):
        for entry in entries:
            if entry.end is not None:
                ends[entry.stream] = entry.end
            elif entry.gap is not None:
                gaps.append((entry.stream, entry.gap))
            else:
                data[entry.stream] = data.get(entry.stream, b"") + entry.data
    return data, gaps, ends
