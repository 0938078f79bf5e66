"""Bytes of the spool that were damaged before they were taken in: what a person sees of it.

The damaged record is lost and nothing else; files, logs and downloads name its range.
"""

import json
import os
import random
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

LOGHAUL = [str(Path(sys.executable).with_name("loghaul"))]
LINES = 4_000
#: Goes on when what it wrote was taken out of its pipes, so that there are many small records.
SPEAK = f"""
import fcntl, os, termios, time
def waiting(fd):
    return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, bytes(4)), "little")
for n in range({LINES}):
    os.write(1 + n % 2, b'line %06d of the damaged run\\n' % n)
    while n % 40 == 39 and waiting(1) + waiting(2):
        time.sleep(0.001)
"""
STREAMS = {
    name: b"".join(b"line %06d of the damaged run\n" % n for n in range(first, LINES, 2))
    for first, name in enumerate(("stdout", "stderr"))
}


def loghaul(*args):
    return subprocess.run([*LOGHAUL, *args], capture_output=True, timeout=60, check=False)


@pytest.fixture
def segment():
    """The segment in which the output of a run that has ended lies, not taken in yet."""
    command = ["run", "-q", "--run-id", "hurt", "--", sys.executable, "-c", SPEAK]
    assert loghaul(*command).returncode == 0
    [*segments] = Path(os.environ["LOGHAUL_HOME"]).glob("spool/*/*.segment")
    return max(segments, key=lambda path: path.read_bytes().count(b"of the damaged run"))


def flip(segment, chance):
    """Flip some bits in the middle of the output's bytes."""
    data = bytearray(segment.read_bytes())
    first, last = data.find(b"line 000"), data.rfind(b"of the damaged run")
    for _ in range(3):
        data[chance.randrange(first + 200, last - 200)] ^= 1 << chance.randrange(8)
    segment.write_bytes(data)


def blank(segment, chance):
    """Set 3,000 bytes to zero."""
    data = bytearray(segment.read_bytes())
    at = chance.randrange(len(data.rstrip(b"\0")) // 2)
    at = max(at, data.find(b"line 000"))
    data[at : at + 3000] = bytes(3000)
    segment.write_bytes(data)


def tear(segment, chance):
    """Cut the end off."""
    data = segment.read_bytes()
    first, last = data.find(b"line 000"), data.rfind(b"of the damaged run")
    os.truncate(segment, chance.randrange(first + 1000, last))


def scribble(segment, chance):
    """Write something else into the middle."""
    data = bytearray(segment.read_bytes())
    first, last = data.find(b"line 000"), data.rfind(b"of the damaged run")
    at = chance.randrange(first + 200, last - 5000)
    data[at : at + 500] = chance.randbytes(500)
    segment.write_bytes(data)


@pytest.mark.parametrize("damage", [flip, blank, tear, scribble])
@pytest.mark.parametrize("seed", range(2))
def test_only_the_damaged_records_are_lost_and_they_are_named(segment, damage, seed, tmp_path):
    damage(segment, random.Random(seed))

    listed = loghaul("files", "hurt", "-o", "json")
    tree = loghaul("files", "hurt").stdout.decode()
    shown = loghaul("logs", "hurt").stdout.decode()
    saved = loghaul("download", "hurt", "--zip", str(tmp_path / "all.zip"))
    [run] = json.loads(loghaul("runs", "-o", "json").stdout)
    driver = next(file for file in json.loads(listed.stdout) if "70_driver" in file["path"])

    assert run["status"] in ("completed", "lost")
    missing = 0
    for name, whole in STREAMS.items():
        raw = loghaul("logs", "hurt", "--raw", "--stream", name)
        gaps = [gap for gap in driver["gaps"] if gap["stream"] == name]
        kept, at = [], 0
        for gap in gaps:
            kept.append(whole[at : gap["offset"]])
            at = gap["offset"] + gap["length"]
            missing += gap["length"]
            assert "damage" in gap["reason"]
            span = f"bytes {gap['offset']:,}-{at - 1:,} never arrived: {gap['reason']}"
            assert span in tree
            assert span in shown
        kept.append(whole[at:])
        if damage is tear:
            # Behind a torn end nobody knows how much there was.
            assert b"".join(kept).startswith(raw.stdout)
        else:
            assert b"".join(kept) == raw.stdout
        assert (b"bytes are missing" in raw.stderr) == bool(gaps)
    assert missing < 16_000 or damage is tear
    assert missing or damage is tear
    assert driver["complete"] is (missing == 0)
    assert (b"bytes are missing" in saved.stderr) == bool(missing)
    manifest = json.loads(zipfile.ZipFile(tmp_path / "all.zip").read("loghaul-manifest.json"))
    [noted] = [file for file in manifest["files"] if "70_driver" in file["path"]]
    assert missing == sum(gap["length"] for one in noted["streams"] for gap in one["gaps"])
