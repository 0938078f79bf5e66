"""`loghaul run` on a terminal: what is seen and what keys do is as without it."""

import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios
import time
from pathlib import Path

import pytest

LOGHAUL = [str(Path(sys.executable).with_name("loghaul")), "run", "-q", "--"]
COLOURS = """
import os, sys, time
time.sleep(0.2)
print(*(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)))
print(os.get_terminal_size(1), os.get_terminal_size(2))
print("\\x1b[31mred\\x1b[0m\\tå\\rback")
from rich.console import Console
Console().print("[bold green]rich[/] table", {"a": 1})
sys.stdout.flush()
from tqdm import tqdm
for _ in tqdm(range(3), bar_format="{n_fmt} {bar}"): time.sleep(0.01)
"""
PAGER = """
import os, termios, tty
keys = os.open(os.ttyname(2), os.O_RDONLY)  # as less does
modes = termios.tcgetattr(keys)
tty.setcbreak(keys)
print("page", flush=True)
print("key", os.read(keys, 1), flush=True)
termios.tcsetattr(keys, termios.TCSADRAIN, modes)
"""
CURSES = """
import os, termios, tty
modes = termios.tcgetattr(1)
tty.setcbreak(1)  # as curses does
print("page", flush=True)
print("key", os.read(0, 1), flush=True)
termios.tcsetattr(1, termios.TCSADRAIN, modes)
"""
INTERRUPTED = """
import time, sys
try:
    print("ready", flush=True)  # the key may come before this returns
    time.sleep(20)
except KeyboardInterrupt:
    print("cleaning up", flush=True)
    time.sleep(0.3)
    print("clean")
    sys.exit(9)
"""


@pytest.fixture(autouse=True)
def environment(tmp_path, monkeypatch):
    monkeypatch.setenv("LOGHAUL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LOGHAUL_BACKGROUND", "0")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)


def drive(command, steps=(), size=(33, 101), seconds=15):
    """Run on a terminal of its own; steps are (text to wait for, keys or a call with the pty).

    Return (bytes on the screen, exit code).
    """
    pid, screen = pty.fork()
    if pid == 0:
        os.execvp(command[0], command)
    resize(screen, *size)
    seen, steps, until = b"", list(steps), time.monotonic() + seconds
    try:
        while time.monotonic() < until:
            if select.select([screen], [], [], 0.05)[0]:
                try:
                    seen += os.read(screen, 65536)
                except OSError:
                    break
            if steps and steps[0][0] in seen:
                _, act = steps.pop(0)
                act(screen) if callable(act) else os.write(screen, act)
        else:
            os.killpg(pid, signal.SIGKILL)
    finally:
        _, status = os.waitpid(pid, 0)
        os.close(screen)
    return seen, os.waitstatus_to_exitcode(status)


def resize(screen, rows, columns):
    fcntl.ioctl(screen, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))


def test_the_screen_gets_the_same_bytes_as_without_us():
    script = [sys.executable, "-c", COLOURS]

    assert drive(script) == drive([*LOGHAUL, *script])


def test_both_outputs_and_the_input_are_terminals_of_the_users_size():
    seen, _ = drive([*LOGHAUL, sys.executable, "-c", COLOURS], size=(40, 77))

    assert b"True True True" in seen
    assert seen.count(b"columns=77, lines=40") == 2


def test_no_pty_gives_pipes_on_a_terminal_too():
    command = [*LOGHAUL[:-1], "--no-pty", "--", sys.executable, "-c"]

    seen, code = drive([*command, "import sys; print(sys.stdout.isatty(), sys.stdin.isatty())"])

    assert (seen, code) == (b"False True\r\n", 0)


def test_ctrl_c_reaches_the_command_once_and_its_last_words_are_seen():
    seen, code = drive([*LOGHAUL, sys.executable, "-c", INTERRUPTED], [(b"ready", b"\x03")])

    assert seen.count(b"cleaning up") == 1
    assert seen.endswith(b"clean\r\n")
    assert code == 9


def test_a_new_window_size_is_followed():
    script = (
        "import os, signal, time\n"
        "told = []\n"
        "def tell(*_):\n"
        "    told.append(os.get_terminal_size(1).columns)\n"
        "    os.write(1, b'now %d\\n' % told[-1])\n"  # it may come amid a print
        "signal.signal(signal.SIGWINCH, tell)\n"
        "print('ready', flush=True)\n"
        "until = time.monotonic() + 10\n"
        "while told[-1:] != [66] and time.monotonic() < until: time.sleep(0.01)\n"
    )

    seen, _ = drive(
        [*LOGHAUL, sys.executable, "-c", script],
        [(b"ready", lambda screen: resize(screen, 50, 66))],
    )

    assert seen.endswith(b"now 66\r\n")


def test_ctrl_z_stops_the_job_and_fg_goes_on():
    script = "import time; print('rea' + 'dy', flush=True); time.sleep(0.6); print('do' + 'ne')"
    line = " ".join([*LOGHAUL, sys.executable, "-c", f'"{script}"']).encode() + b"\n"
    steps = [
        (b"# " if os.getuid() == 0 else b"$ ", line),
        (b"ready", b"\x1a"),
        (b"Stopped", b"echo in she''ll; fg\n"),
        (b"done", b"exit 4\n"),
    ]

    seen, code = drive(["bash", "--norc", "--noprofile", "-i"], steps)

    assert code == 4
    assert seen.index(b"Stopped") < seen.index(b"in shell") < seen.index(b"done")


@pytest.mark.parametrize("script", [PAGER, CURSES])
def test_a_pager_gets_its_keys_and_the_terminal_is_as_before(tmp_path, script):
    run = " ".join([*LOGHAUL, sys.executable, "-c", f"'{script}'"])
    before, after = tmp_path / "before", tmp_path / "after"

    seen, code = drive(
        ["sh", "-c", f"stty -g >{before}; {run}; stty -g >{after}"], [(b"page", b"q")]
    )

    assert (b"key b'q'" in seen, code) == (True, 0)
    assert before.read_text() == after.read_text()


def test_a_notice_is_on_a_terminal_only():
    seen, _ = drive([*LOGHAUL[:-2], "--run-id", "seven", "--", "true"])

    assert seen.startswith(b"loghaul: run seven\r\n")
    assert b"loghaul logs seven" in seen
