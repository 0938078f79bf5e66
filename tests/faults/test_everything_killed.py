"""kill -9 of script, guard, pump and worker, at moments drawn from a seed, alone and together.

The script writes numbered lines with a checksum on stdout, on stderr and through logging, and notes
each one in a file of its own after it was accepted. What it noted must be found, once, in order.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path

import pytest

LOGHAUL = [str(Path(sys.executable).with_name("loghaul"))]
ROUNDS = [*range(10), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(10, 100))]
SECONDS = 0.9
SCRIPT = """
import logging, os, sys, time, zlib
logging.basicConfig(level=logging.INFO, handlers=[logging.NullHandler()])
ways = [
    ("stdout", lambda line: print(line)),
    ("stderr", lambda line: print(line, file=sys.stderr)),
    ("records", lambda line: logging.info("%s", line)),
]
notes = [os.open(name + ".noted", os.O_WRONLY | os.O_CREAT | os.O_APPEND) for name, _ in ways]
number, until = 0, time.monotonic() + float(sys.argv[1])
while time.monotonic() < until:
    for (name, say), note in zip(ways, notes):
        line = "%s %06d" % (name, number)
        line += " %08x" % zlib.crc32(line.encode())
        say(line)
        os.write(note, line.encode() + b"\\n")
    number += 1
    if number % 50 == 0:
        time.sleep(0.003)
"""
#: Who dies, in this order. A pump alone may die twice, the third time output is only copied.
VICTIMS = (
    ("script",),
    ("guard",),
    ("pump", "pump"),
    ("worker", "worker", "worker"),
    ("worker", "pump", "worker"),
    ("worker", "script"),
    ("guard", "worker"),
    ("script", "guard"),
    ("guard", "pump"),
    ("worker", "guard", "pump", "script"),
    ("script", "pump", "guard", "worker"),
)


def processes(home):
    """Return {role: [pid]} of all processes of a home, found by their environment."""
    found = {"guard": [], "pump": [], "script": [], "worker": []}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            if b"LOGHAUL_HOME=%s\0" % os.fsencode(home) not in (folder / "environ").read_bytes():
                continue
            words = (folder / "cmdline").read_bytes().split(b"\0")
            pid = int(folder.name)
            session = os.getsid(pid)
        except OSError:
            continue
        if b"ingest" in words:
            found["worker"].append(pid)
        elif b"run" in words:
            found["pump" if session == pid else "guard"].append(pid)
        elif any(words):
            found["script"].append(pid)
    return found


def kill(home, role, wait_seconds=2.0):
    """Kill all of a role that there are, waiting for one; how many were killed."""
    until = time.monotonic() + wait_seconds
    while True:
        pids = processes(home)[role]
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        if pids or time.monotonic() > until:
            return len(pids)
        time.sleep(0.005)


def wait_for_the_end(home, seconds=20.0):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found = processes(home)
        if not (found["guard"] or found["pump"] or found["script"]):
            return
        time.sleep(0.02)
    raise AssertionError(f"still there after {seconds} s: {found}")


def line_of(name, number):
    line = b"%s %06d" % (name.encode(), number)
    return line + b" %08x" % zlib.crc32(line)


def whole(name, lines):
    """The lines are numbered from 0 without a hole, each as it was written."""
    assert [line_of(name, number) for number in range(len(lines))] == lines


def ask(home, *args):
    environment = {**os.environ, "LOGHAUL_HOME": str(home)}
    done = subprocess.run(
        [*LOGHAUL, *args], env=environment, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, (args, done.stderr)
    return done.stdout


def start(tmp_path):
    home = tmp_path / "home"
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [*LOGHAUL, "run", "-q", "--run-id", "killed", "--"]
    process = subprocess.Popen(
        [*command, sys.executable, "script.py", str(SECONDS)],
        cwd=tmp_path,
        env={**os.environ, "LOGHAUL_HOME": str(home), "LOGHAUL_BACKGROUND": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    until = time.monotonic() + 10
    while not (tmp_path / "records.noted").exists() and time.monotonic() < until:
        time.sleep(0.005)
    return home, process


def clean_up(home, process):
    for role in ("guard", "pump", "script", "worker"):
        kill(home, role, wait_seconds=0)
    process.wait(timeout=20)


def noted(tmp_path, name):
    """What the script knows was accepted; a line that it was killed in the middle of is not."""
    return (tmp_path / f"{name}.noted").read_bytes().split(b"\n")[:-1]


def records_of(home, files):
    paths = [file["path"] for file in files if file["path"].startswith("logs/azureml/")]
    assert len(paths) <= 1
    raw = ask(home, "logs", "killed", paths[0], "--raw").splitlines() if paths else []
    said = [json.loads(line)["message"].encode() for line in raw]
    # Without guard and pump its output has no reader, which it dies of, and which is a record too.
    return [line for line in said if b"BrokenPipeError" not in line]


@pytest.mark.parametrize("seed", ROUNDS)
def test_what_was_accepted_is_there_once_whoever_is_killed(tmp_path, seed):
    chance = random.Random(seed)
    victims = VICTIMS[seed % len(VICTIMS)]
    home, process = start(tmp_path)
    try:
        together = chance.random() < 0.3
        if together:
            time.sleep(chance.uniform(0.0, 0.9 * SECONDS))
        for victim in victims:
            if not together:
                time.sleep(chance.uniform(0.0, SECONDS / (len(victims) + 1)))
            kill(home, victim)
        wait_for_the_end(home)
        files = json.loads(ask(home, "files", "killed", "-o", "json"))
        [run] = json.loads(ask(home, "runs", "-o", "json"))
        records = records_of(home, files)
        outputs = {
            name: ask(home, "logs", "killed", "--raw", "--stream", name).splitlines()
            for name in ("stdout", "stderr")
        }
    finally:
        clean_up(home, process)

    accepted = {name: noted(tmp_path, name) for name in ("stdout", "stderr", "records")}
    whole("records", records)
    assert len(accepted["records"]) <= len(records) <= len(accepted["records"]) + 1
    for name, lines in outputs.items():
        whole(name, lines)
        if not {"guard", "pump"} <= set(victims):
            assert len(accepted[name]) <= len(lines) <= len(accepted[name]) + 1
        # With guard and pump dead nobody holds the pipe, and the kernel drops what is in it.
        assert len(b"\n".join(accepted[name][len(lines) :])) <= 3 * 65536
    assert [gap for file in files for gap in file["gaps"]] == []
    assert all(file["complete"] for file in files)
    if "guard" in victims:
        # A command that was through before the guard died has been told of.
        assert run["status"] in ("lost", "failed", "completed")
        assert run["status"] != "lost" or process.returncode == -signal.SIGKILL
    else:
        assert run["status"] == ("failed" if "script" in victims else "completed")
