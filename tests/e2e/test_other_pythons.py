"""Scripts of environments that have no loghaul, nor anything else: records arrive in search."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

LOGHAUL = str(Path(sys.executable).with_name("loghaul"))
SCRIPT = """
import logging, sys, warnings
logging.basicConfig(level=logging.INFO, format="%(message)s")
quiet = logging.getLogger("an.sdk")
quiet.propagate = False
quiet.setLevel(logging.DEBUG)
quiet.debug("hidden debug of %s", sys.version.split()[0], extra={"epoch": 3})
logging.info("shown")
warnings.warn("beware")
raise RuntimeError("diverged")
"""


def _pythons():
    """One Python of every version >= 3.9 that is there, by "3.x"."""
    found = {}
    for folder in (Path("/root/.pyenv/versions"), Path.home() / ".pyenv/versions", Path("/usr")):
        for python in (*folder.glob("*/bin/python3"), *folder.glob("bin/python3.[0-9]*")):
            version = re.search(r"3\.(\d+)", str(python))
            if version and int(version[1]) >= 9 and re.fullmatch(r"python3(\.\d+)?", python.name):
                found.setdefault(version[0], str(python))
    return sorted(found.items())


PYTHONS = _pythons()


def ask(*args):
    done = subprocess.run([LOGHAUL, *args], capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(not PYTHONS, reason="no other Python on this machine")
@pytest.mark.parametrize("python", [path for _, path in PYTHONS], ids=[name for name, _ in PYTHONS])
def test_records_of_an_environment_without_loghaul_are_found(python, tmp_path):
    made = subprocess.run(
        [python, "-m", "venv", "--without-pip", "env"], cwd=tmp_path, capture_output=True
    )
    if made.returncode:
        pytest.skip(f"{python} makes no environments")
    (tmp_path / "script.py").write_text(SCRIPT)
    alone = [str(tmp_path / "env/bin/python"), "script.py"]
    assert subprocess.run([alone[0], "-c", "import loghaul"], capture_output=True).returncode == 1

    plain = subprocess.run(alone, capture_output=True, cwd=tmp_path, timeout=60)
    under_us = subprocess.run(
        [LOGHAUL, "run", "-q", "--run-id", "r", "--", *alone],
        capture_output=True,
        cwd=tmp_path,
        timeout=60,
    )
    [hidden] = map(json.loads, ask("search", '"hidden debug"', "-o", "ndjson").splitlines())
    failures = ask("search", "error.type:RuntimeError level:critical", "-o", "ndjson").splitlines()
    warned = ask("search", "logger:py.warnings beware", "--count")

    assert (1, plain.stdout, plain.stderr) == (
        under_us.returncode,
        under_us.stdout,
        under_us.stderr,
    )
    assert hidden["message"].startswith("hidden debug of 3.")
    assert (hidden["log.level"], hidden["log.logger"], hidden["extra.epoch"]) == (
        "debug", "an.sdk", 3,
    )  # fmt: skip
    assert [json.loads(line)["error.message"] for line in failures] == ["diverged"]
    assert warned == b"1\n"
