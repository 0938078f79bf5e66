"""A deleted run is gone; one that is started again under its id is there again, from its start."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

LOGHAUL = str(Path(sys.executable).with_name("loghaul"))


@pytest.fixture(params=["0", "1"], ids=["worker on demand", "worker beside it"])
def call(request, tmp_path):
    environment = {
        **os.environ,
        "LOGHAUL_HOME": str(tmp_path / "home"),
        "LOGHAUL_BACKGROUND": request.param,
    }

    def go(*args, code=0, program=LOGHAUL, **more):
        done = subprocess.run(
            [program, *args], env={**environment, **more}, capture_output=True, timeout=60
        )
        assert done.returncode == code, (args, done.stderr)
        return done.stdout

    yield go
    # The worker ends when its home is gone.
    (tmp_path / "home").rename(tmp_path / "gone")


def speak(call, text, *options):
    call("run", "-q", "--run-id", "again", *options, "--", "echo", text)


def test_a_run_that_is_started_again_after_its_deletion_is_there(call):
    for number in range(3):
        speak(call, f"words {number}")
        assert call("logs", "again") == b"words %d\n" % number
        time.sleep(0.1)
        call("delete", "again", "--yes")
        call("logs", "again", code=3)
        assert json.loads(call("runs", "-o", "json")) == []
    speak(call, "last words", "--node", "other")

    assert call("logs", "again") == b"last words\n"
    assert call("search", "words file:*driver*", "--count") == b"1\n"
    [row] = json.loads(call("runs", "-o", "json"))
    assert (row["id"], row["attempts"], row["nodes"]) == ("again", 1, 1)


def test_a_run_begun_again_in_any_way_after_its_deletion_is_there(call):
    by_init = "import logging, loghaul; loghaul.init(run='again'); logging.warning('by init')"
    ways = {
        b"by name\n": lambda: speak(call, "by name"),
        b"by environment\n": lambda: call(
            "run", "-q", "--", "echo", "by environment", LOGHAUL_RUN_ID="again"
        ),
        b"by init\n": lambda: call("-c", by_init, program=sys.executable),
    }
    for words, begin in ways.items():
        begin()
        said = call("logs", "again")
        assert said.endswith(words) and said.count(b"\n") == 1
        call("delete", "again", "--yes")
        call("logs", "again", code=3)
