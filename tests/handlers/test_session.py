"""`loghaul.init`: a run of its own in a script that nobody started with `loghaul run`."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def run(tmp_path: Path, writers_of):
    """Run a script in a home of its own; its exit code, output and writers."""

    def run(script: str, **variables: str) -> Any:
        home = tmp_path / "home"
        variables = {"LOGHAUL_HOME": str(home), "LOGHAUL_BACKGROUND": "false", **variables}
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("LOGHAUL", "PYTHON"))}
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script)],
            env={**kept, **variables}, capture_output=True, text=True, timeout=60, cwd=tmp_path,
        )  # fmt: skip
        return done, writers_of(home / "spool")

    return run


def _messages(writer: dict[str, Any]) -> list[str]:
    return [event["message"] for event in writer["events"]]


def test_records_of_all_loggers_arrive_and_basic_config_still_works(run) -> None:
    done, (writer,) = run("""
        import loghaul, logging
        session = loghaul.init(experiment="alphas", tags={"who": "me"})
        assert loghaul.init() is session
        logging.basicConfig(level=logging.DEBUG, format="%(message)s")
        logging.getLogger("a").debug("seen")
        print(session.id)
    """)
    assert (done.returncode, done.stderr) == (0, "seen\n")
    facts = writer["facts"]
    assert _messages(writer) == ["seen"]
    assert facts["run.id"] == done.stdout.strip()
    assert facts["run.id"].startswith("alphas_")
    assert (facts["role"], facts["labels"]) == ("session", {"who": "me"})
    (end,) = writer["ends"]
    assert (end.cause, end.detail) == ("closed", {"status": "completed"})


def test_an_uncaught_exception_ends_the_run_as_failed_with_its_error(run) -> None:
    done, (writer,) = run("""
        import loghaul
        loghaul.init()
        raise ValueError("no data")
    """)
    assert done.returncode == 1
    assert writer["ends"][0].detail == {
        "status": "failed",
        "error.type": "ValueError",
        "error.message": "no data",
    }


def test_a_run_can_be_ended_in_a_notebook_and_the_next_one_begun(run) -> None:
    done, writers = run("""
        import loghaul, logging
        with loghaul.init(run="one"):
            logging.error("in one")
        logging.error("between")
        try:
            with loghaul.init(run="two"):
                raise KeyError("k")
        except KeyError:
            pass
        loghaul.init(run="three").finish("canceled")
    """)
    assert done.returncode == 0
    told = {w["facts"]["run.id"]: (_messages(w), w["ends"][0].detail["status"]) for w in writers}
    assert told == {
        "one": (["in one"], "completed"),
        "two": (["Run failed: KeyError: 'k'"], "failed"),
        "three": ([], "canceled"),
    }


def test_children_join_the_run_of_their_parent(run) -> None:
    done, writers = run("""
        import loghaul, subprocess, sys, os
        loghaul.init(run="family")
        child = "import loghaul, logging; assert loghaul.init().joined; logging.error('child')"
        subprocess.run([sys.executable, "-c", child], check=True, stderr=subprocess.DEVNULL)
    """)
    assert (done.returncode, done.stderr) == (0, "")
    parent = next(w for w in writers if w["facts"]["role"] == "session")
    child = next(w for w in writers if w["facts"]["role"] == "process")
    assert child["facts"]["parent"] == parent["facts"].get("id", child["facts"]["parent"])
    assert {w["facts"]["run.id"] for w in writers} == {"family"}
    assert _messages(child) == ["child"]


def test_a_handler_alone_makes_a_run_that_ends_behind_the_last_record(run) -> None:
    done, (writer,) = run("""
        import atexit, logging, logging.handlers, loghaul
        memory = logging.handlers.MemoryHandler(100, target=loghaul.Handler(experiment="solo"))
        logging.basicConfig(level=10, handlers=[memory])
        logging.debug("held back until shutdown")
    """)
    assert (done.returncode, done.stderr) == (0, "")
    assert _messages(writer) == ["held back until shutdown"]
    assert writer["facts"]["role"] == "session"
    assert writer["ends"][0].detail == {"status": "completed"}


def test_importing_loghaul_loads_nothing_but_itself(run) -> None:
    done, _ = run("""
        import sys
        before = set(sys.modules)
        import loghaul
        print(sorted(set(sys.modules) - before), loghaul.__version__)
    """)
    assert done.stdout == "['__future__', 'loghaul'] 0.1.0\n"
