"""A launcher below `loghaul run` that starts ranks, as torchrun does: one file per rank, exact."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

LOGHAUL = str(Path(sys.executable).with_name("loghaul"))
LINES = 3000
RANKS = 4
LAUNCHER = """
import os, subprocess, sys
python, ranks = sys.argv[1], int(sys.argv[2])
print("launching", ranks, "ranks")
started = [
    subprocess.Popen(
        [python, "train.py"],
        env={**os.environ, "RANK": str(4 + r), "LOCAL_RANK": str(r), "WORLD_SIZE": "8"},
    )
    for r in range(ranks)
]
codes = [child.wait() for child in started]
sys.stderr.write(f"ranks ended: {codes}\\n")
"""
TRAIN = """
import logging, os, subprocess, sys
rank = os.environ["RANK"]
for step in range(%d):
    print("rank", rank, "step", step, "of the training")
    if step %% 10 == 0:
        sys.stderr.write("rank %%s warns at %%d\\n" %% (rank, step))
sys.stdout.flush()
subprocess.run("echo a child of rank $RANK", shell=True)
logging.getLogger("train").warning("a record of rank %%s", rank)
"""


def out_of(rank):
    lines = b"".join(b"rank %d step %d of the training\n" % (rank, s) for s in range(LINES))
    return lines + b"a child of rank %d\n" % rank


def err_of(rank):
    return b"".join(b"rank %d warns at %d\n" % (rank, step) for step in range(0, LINES, 10))


def ask(*args):
    done = subprocess.run([LOGHAUL, *args], capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _other_python():
    """A Python of at least 3.9 that is not ours, as another environment would have it."""
    for python in sorted(Path("/root/.pyenv/versions").glob("3.*/bin/python3")):
        if re.search(r"/3\.(9|10|12)\.", str(python)):
            return str(python)
    return None


PYTHONS = {"own": sys.executable, "other": _other_python()}


@pytest.mark.parametrize("python", PYTHONS)
def test_every_rank_has_a_file_of_its_own_and_the_launcher_keeps_the_runs(
    tmp_path, monkeypatch, python
):
    if PYTHONS[python] is None:
        pytest.skip("no other Python on this machine")
    monkeypatch.chdir(tmp_path)
    Path("launch.py").write_text(LAUNCHER)
    Path("train.py").write_text(TRAIN % LINES)
    launch = [sys.executable, "launch.py", PYTHONS[python], str(RANKS)]

    done = subprocess.run(
        [LOGHAUL, "run", "-q", "--run-id", "r", "--", *launch], capture_output=True, timeout=60
    )
    listed = json.loads(ask("files", "r", "-o", "json"))
    driver = {file["rank"]: file for file in listed if "70_driver_log" in file["path"]}

    assert done.returncode == 0, done.stderr
    assert set(driver) == {None, 4, 5, 6, 7}
    # Nothing is lost or broken on the user's own side, in whatever order the ranks came.
    everything = b"launching 4 ranks\n" + b"".join(map(out_of, range(4, 8)))
    assert sorted(everything.splitlines()) == sorted(done.stdout.splitlines())
    for rank in range(4, 8):
        assert driver[rank]["path"] == f"azureml-logs/70_driver_log_{rank}.txt"
        assert all(stream["verified"] is True for stream in driver[rank]["streams"])
        one = ("logs", "r", f"70_driver_log_{rank}.txt", "--raw", "--stream")
        assert out_of(rank) == ask(*one, "stdout")
        assert ask(*one, "stderr").startswith(err_of(rank))
    own = ("logs", "r", "azureml-logs/70_driver_log.txt", "--raw", "--stream")
    assert ask(*own, "stdout") == b"launching 4 ranks\n"
    assert ask(*own, "stderr") == b"ranks ended: [0, 0, 0, 0]\n"
    shown = ask("logs", "r", "--rank", "6")
    assert shown.count(b"rank 6 step") == LINES and b"rank 5" not in shown
    found = ask("search", 'logger:train "record of rank 5"', "-o", "ndjson")
    [record] = map(json.loads, found.splitlines())
    assert record["run.rank"] == 5
    processes = ask("logs", "r", "process_info.json", "--raw").splitlines()
    names = {json.loads(line)["process_name"] for line in processes}
    assert names == {"main", "rank_4", "rank_5", "rank_6", "rank_7"}
    said = tmp_path / "home" / "client.log"
    assert not said.exists() or "unknown" not in said.read_text()


@pytest.fixture(autouse=True)
def environment(tmp_path, monkeypatch):
    monkeypatch.setenv("LOGHAUL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LOGHAUL_BACKGROUND", "0")
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
