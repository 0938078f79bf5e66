"""`loghaul tail` killed at random moments while its file grows and is rotated."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from loghaul import config
from loghaul_ingest import worker
from loghaul_ingest.stores import open_reader


def start(path, home, *options):
    environment = {**os.environ, "LOGHAUL_HOME": str(home), "LOGHAUL_BACKGROUND": "false"}
    command = [sys.executable, "-m", "loghaul_ingest", "tail", str(path), "--run", "r", *options]
    return subprocess.Popen(command, env=environment)


def wait_for(condition):
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def stored(settings):
    worker.once(settings, 0)
    reader = open_reader(settings.store)
    try:
        data = b""
        for row in reader.streams("r"):
            assert not row.holes
            heads = [head.key for head in reader.heads(row.facts.stream)]
            data += b"".join(block.data for block in reader.load(heads))
        return data
    finally:
        reader.close()


@pytest.mark.parametrize(
    "seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 30))]
)
@pytest.mark.parametrize("rotation", ["rename", "copytruncate"])
def test_every_line_is_stored_once_whenever_the_tail_is_killed(rotation, seed, tmp_path):
    chance = random.Random(seed)
    settings = config.load(home=tmp_path / "home", run_id="r", background=False)
    path = tmp_path / "app.log"
    path.write_bytes(b"")
    wanted, number, rotations = b"", 0, 0
    tail = start(path, settings.home)
    # What was rotated away before a first tail ever looked is none of its business.
    wait_for(lambda: list((settings.home / "tail").glob("*.json")))
    try:
        for round_number in range(4):
            until = time.monotonic() + chance.uniform(0.4, 1.2)
            while time.monotonic() < until:
                lines = b"".join(b"line %06d\n" % (number + i) for i in range(chance.randrange(90)))
                number += lines.count(b"\n")
                wanted += lines
                with path.open("ab") as log:
                    log.write(lines)
                time.sleep(0.002)
            if round_number % 2:
                rotations += 1
                rotate(path, rotation, rotations)
            if chance.random() < 0.7:
                worker.once(settings, 0)
            tail.send_signal(signal.SIGKILL)
            tail.wait()
            tail = start(path, settings.home)
    finally:
        tail.kill()
        tail.wait()
    with path.open("ab") as log:
        log.write(b"the end\n")
    tail = start(path, settings.home)
    deadline = time.monotonic() + 30
    while not (found := stored(settings)).endswith(b"the end\n") and time.monotonic() < deadline:
        time.sleep(0.1)
    tail.send_signal(signal.SIGTERM)
    assert tail.wait(10) == 0

    lines, expected = found.splitlines(), (wanted + b"the end\n").splitlines()
    missing, extra = set(expected) - set(lines), set(lines) - set(expected)
    assert not missing and not extra, (len(missing), sorted(missing)[:3], sorted(extra)[:3])
    assert found == wanted + b"the end\n"


def rotate(path, rotation, number):
    """Rotate as logrotate does, each file under a number of its own, the highest the newest."""
    rotated = path.with_name(f"{path.name}.{number}")
    if rotation == "rename":
        path.rename(rotated)
        path.write_bytes(b"")
    else:
        rotated.write_bytes(path.read_bytes())
        os.truncate(path, 0)
