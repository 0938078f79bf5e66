"""`sh deploy/demo`, as somebody who has just cloned starts it the second time."""

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KEPT = ("PATH", "LANG", "LC_ALL", "SYSTEMROOT")


def _is_made():
    """Whether the environment stands: a test must not change what other tests run in."""
    stamp = ROOT / ".venv" / "ok"
    return stamp.exists() and stamp.stat().st_mtime > (ROOT / "pyproject.toml").stat().st_mtime


pytestmark = pytest.mark.skipif(not _is_made(), reason="`sh tests/run` makes the environment first")


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """What the demo printed, with an empty home folder and no settings."""
    folder = tmp_path_factory.mktemp("demo")
    home, temporary = folder / "home", folder / "tmp"
    home.mkdir()
    temporary.mkdir()
    environment = {name: os.environ[name] for name in KEPT if name in os.environ}
    environment.update(HOME=str(home), TMPDIR=str(temporary))
    began = time.monotonic()
    done = subprocess.run(
        ["sh", str(ROOT / "deploy" / "demo")],
        env=environment,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "making .venv" not in done.stderr
    # Nothing but its own data folder is touched.
    assert list(home.iterdir()) == []
    assert {path.name.split(".")[0] for path in temporary.iterdir()} <= {"loghaul-demo"}
    print(f"the demo took {time.monotonic() - began:.1f} s")
    yield done.stdout
    for path in temporary.iterdir():
        shutil.rmtree(path, ignore_errors=True)


def test_each_run_ends_as_it_should(shown):
    listed = dict(re.findall(r"^(alphas|diverged) +(\w+) +20", shown, re.MULTILINE))

    assert listed == {"alphas": "completed", "diverged": "failed"}
    assert "exit code 1" in shown


def test_a_run_is_followed_to_its_end(shown):
    followed = shown.split("$ loghaul logs diverged -f")[1].split("\n#")[0]

    assert len(re.findall(r"^alpha=\d\.\d\d mse=", followed, re.MULTILINE)) == 11
    assert followed.rstrip().endswith("mse=3298.89")


def test_files_search_and_download_are_shown_and_proven(shown):
    assert "70_driver_log.txt" in shown
    assert "Request URL: 'http://127.0.0.1" in shown
    assert '"extra.alpha":0.5' in shown
    proofs = shown.split("$ sha256sum -c")[1].split("\n#")[0].split("\n")
    found = [line.rpartition(": ")[2] for line in proofs if ": " in line]
    assert len(found) >= 6
    assert set(found) == {"OK"}


def test_it_ends_with_commands_that_work(shown):
    last = shown.split("# Go on by hand")[1]
    settings, *commands, _forget = [line.partition("  #")[0].strip() for line in
                                    last.strip().splitlines()]  # fmt: skip
    by_hand = [line for line in commands if "your_script" not in line]

    assert len(by_hand) == 2
    for command in by_hand:
        done = subprocess.run(
            ["sh", "-c", f"{settings}; {command}"], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert "RuntimeError: training diverged" in done.stdout
