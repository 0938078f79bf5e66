"""What reading commands show on terminals of any width: nothing that one needs is cut."""

import fcntl
import os
import pty
import re
import struct
import sys
import termios
from pathlib import Path

import pytest

LOGHAUL = str(Path(sys.executable).with_name("loghaul"))
RUNS = ("ridge_1795476683_2331f029", "x" * 60, "short")
WORDS = ("STATUS", "DURATION", "ERRORS", "completed")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("home")
    environment = {**os.environ, "LOGHAUL_HOME": str(folder), "LOGHAUL_BACKGROUND": "0"}
    for run in RUNS:
        command = [LOGHAUL, "run", "-q", "--run-id", run, "--", "echo", "words " * 20]
        assert os.spawnve(os.P_WAIT, LOGHAUL, command, environment) == 0
    return folder


def screen(columns, home, *args):
    """What a terminal of so many columns is sent, without colours."""
    pid, fd = pty.fork()
    if pid == 0:
        fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("4H", 40, columns, 0, 0))
        os.environ.update(LOGHAUL_HOME=str(home), LOGHAUL_BACKGROUND="0", TERM="xterm-256color")
        os.environ.pop("COLUMNS", None)
        os.unsetenv("COLUMNS")  # a readline that was loaded here set it behind Python's back
        os.execv(LOGHAUL, [LOGHAUL, *args])
    found = b""
    while True:
        try:
            part = os.read(fd, 65536)
        except OSError:
            break
        if not part:
            break
        found += part
    _, status = os.waitpid(pid, 0)
    os.close(fd)
    assert os.waitstatus_to_exitcode(status) == 0, found
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", found.decode())


@pytest.mark.parametrize("columns", [30, 60, 80, 200])
def test_the_list_of_runs_cuts_neither_ids_nor_words(home, columns):
    shown = screen(columns, home, "runs")

    joined = re.sub(r"\s", "", "".join(line[:24] for line in shown.splitlines()))
    assert RUNS[2] in shown
    assert all(word in shown for word in WORDS)
    for run in RUNS:
        assert run in shown or run[:24] in joined
    assert "…" not in shown


@pytest.mark.parametrize("columns", [30, 40, 50])
def test_what_is_said_of_a_run_is_folded_between_its_columns(home, columns):
    shown = [line.rstrip() for line in screen(columns, home, "runs").splitlines()]

    assert [line for line in shown if len(line) > columns and not line.startswith("x" * 60)] == []
    times = re.compile(r"  completed  \d\d-\d\d \d\d:\d\d( |$)")
    assert len([line for line in shown if times.match(line)]) == len(RUNS)


@pytest.mark.parametrize("columns", [30, 200])
def test_files_and_lines_are_whole_on_any_terminal(home, columns):
    assert "azureml-logs" in screen(columns, home, "files", "short")
    assert "70_driver_log.txt" in screen(columns, home, "files", "short")
    assert "words " * 20 in screen(columns, home, "logs", "short")
    assert "words " * 20 in screen(columns, home, "search", "words", "--run", "short")


@pytest.mark.parametrize("columns", [40, 60, 200])
def test_the_bars_of_a_histogram_fit_the_terminal(home, columns):
    shown = screen(columns, home, "search", "*", "--histogram", "1d").splitlines()

    assert any("█" in line for line in shown)
    assert [line for line in shown if len(line) > columns] == []
