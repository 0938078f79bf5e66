"""`loghaul run` on pipes and files: exact bytes, exit codes, signals, and what it leaves behind."""

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from loghaul.spool import SpoolReader, writers

RUN = [str(Path(sys.executable).with_name("loghaul")), "run"]
MANY = """
import ctypes, subprocess, sys, threading
tee = {1: open(sys.argv[1] + ".1", "ab"), 2: open(sys.argv[1] + ".2", "ab")}
libc = ctypes.CDLL(None)
turn = threading.Lock()
def speak(thread):
    for number in range(int(sys.argv[2]) // 8):
        for descriptor, stream in ((1, sys.stdout), (2, sys.stderr)):
            with turn:
                print("thread", thread, "line", number, file=stream, flush=True)
                tee[descriptor].write(b"thread %d line %d\\n" % (thread, number))
threads = [threading.Thread(target=speak, args=(thread,)) for thread in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
for number in range(1000):
    libc.printf(b"from C %d\\n", number)
    tee[1].write(b"from C %d\\n" % number)
libc.fflush(None)
child = "import os; [os.write(2, b'child \\\\0\\\\xff %d\\\\n' % n) for n in range(1000)]"
subprocess.run([sys.executable, "-c", child], check=True)
tee[2].write(b"".join(b"child \\0\\xff %d\\n" % n for n in range(1000)))
"""


@pytest.fixture(autouse=True)
def environment(tmp_path, monkeypatch):
    monkeypatch.setenv("LOGHAUL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LOGHAUL_BACKGROUND", "0")
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    monkeypatch.chdir(tmp_path)


def run(*command, options=(), **more):
    more = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "timeout": 60, **more}
    return subprocess.run([*RUN, *options, "--", *command], **more)


def captured(home=None):
    """Return {run id: (facts, bytes by stream, ends by stream)} of all writers that ended."""
    found = []
    for directory in writers((home or Path("home")) / "spool"):
        reader = SpoolReader(directory)
        data, ends = {}, {}
        until = time.monotonic() + 10
        while not reader.ended and time.monotonic() < until:
            for entry in reader.read(1 << 22):
                assert entry.gap is None, entry
                if entry.end is not None:
                    ends[entry.stream] = entry.end
                else:
                    data.setdefault(entry.stream, bytearray()).extend(entry.data)
        found.append((reader.facts, {name: bytes(got) for name, got in data.items()}, ends))
    return found


def only():
    [(facts, data, ends)] = captured()
    return facts, data, ends


def facts_of(reader_facts):
    return getattr(reader_facts, "facts", reader_facts)


def test_200_000_lines_of_threads_c_and_children_are_exact():
    result = run(sys.executable, "-c", MANY, "tee", "200000")

    _, data, ends = only()

    assert result.returncode == 0, result.stderr[-500:]
    for stream, seen in (("stdout", result.stdout), ("stderr", result.stderr)):
        tee = Path("tee.1" if stream == "stdout" else "tee.2").read_bytes()
        assert tee == seen == data[stream]
        assert hashlib.sha256(tee).hexdigest() == ends[stream].sha256


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_output_of_a_c_program_is_what_a_plain_redirection_gives():
    Path("c.c").write_text(
        "#include <stdio.h>\nint main(void) { for (int i = 0; i < 100000; i++) {"
        ' printf("out %d\\n", i); if (i % 3 == 0) fprintf(stderr, "err %d\\n", i); }'
        " return 7; }\n"
    )
    subprocess.run(["cc", "-o", "c", "c.c"], check=True)
    subprocess.run("./c >out 2>err", shell=True, check=False)

    code = subprocess.run(f"{' '.join(RUN)} -- ./c >o2 2>e2", shell=True, check=False)
    _, data, _ = only()

    assert code.returncode == 7
    assert Path("out").read_bytes() == Path("o2").read_bytes() == data["stdout"]
    assert Path("err").read_bytes() == Path("e2").read_bytes() == data["stderr"]


@pytest.mark.parametrize(
    ("script", "code", "status"),
    [
        ("exit 0", 0, "completed"),
        ("exit 3", 3, "failed"),
        ("kill -SEGV $$", 139, "failed"),
        ("kill -KILL $$", 137, "failed"),
    ],
)
def test_the_exit_code_is_the_commands_own(script, code, status):
    result = run("sh", "-c", f"echo out; {script}")

    _, data, ends = only()

    assert (code, b"out\n") == (result.returncode, data["stdout"])
    assert (code, status) == (
        ends["stdout"].detail["exit_code"],
        ends["stderr"].detail["status"],
    )


@pytest.mark.parametrize(
    ("command", "code"), [("no-such-command", 127), ("/etc/passwd", 126), ("/", 126)]
)
def test_a_command_that_cannot_be_started_is_told_and_recorded(command, code):
    result = run(command)

    _, data, ends = only()

    assert (code, b"") == (result.returncode, result.stdout)
    assert result.stderr.startswith(b"loghaul: " + repr(command).encode() + b" cannot be run: ")
    assert ends["stdout"].detail["status"] == "failed"
    assert b"cannot be run" in b"".join(data.values())


def test_a_script_without_an_interpreter_line_runs_as_in_a_shell():
    script = Path("plain")
    script.write_text("echo $0 $1\n")
    script.chmod(0o755)

    assert run("./plain", "one").stdout == b"./plain one\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_of_a_process_is_passed_on(number):
    script = (
        "import os, signal, sys, time\n"
        # The signal may come while print is still at work, which cannot be entered again.
        "def said(number, _): os.write(1, b'got %d\\n' % number); sys.exit(8)\n"
        "for number in (2, 10, 15): signal.signal(number, said)\n"
        "os.write(1, b'ready\\n'); time.sleep(20)\n"
    )
    process = subprocess.Popen(
        [*RUN, "--", sys.executable, "-c", script], stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(number)
    seen, _ = process.communicate(timeout=20)

    _, _, ends = only()

    assert (b"got %d\n" % number, 8) == (seen, process.returncode)
    status = "failed" if number == signal.SIGUSR1 else "canceled"
    assert status == ends["stdout"].detail["status"]


def test_nohup_and_the_mask_of_the_user_are_the_commands_too():
    show = "grep -E 'Sig(Blk|Ign)' /proc/self/status"

    def masks(*command):
        result = subprocess.run(["nohup", *command, "sh", "-c", show], stdout=-1, stdin=-3)
        # 32 and 33 are the C library's own: its posix_spawn ignores them in every child.
        words = [int(line.split()[1], 16) for line in result.stdout.splitlines()]
        return [word & ~(3 << 31) for word in words]

    assert masks(*RUN, "--") == masks()


def test_output_of_a_grandchild_is_waited_for():
    result = run("sh", "-c", "(sleep 0.4; echo late) & echo early")

    assert b"early\nlate\n" == result.stdout == only()[1]["stdout"]


def test_a_silent_grandchild_does_not_hold_up_the_shell():
    started = time.monotonic()
    with Path("out").open("wb") as out:
        result = run("sh", "-c", "sleep 5 & echo done", stdout=out, stderr=out)

    assert (result.returncode, Path("out").read_bytes()) == (0, b"done\n")
    assert time.monotonic() - started < 4


def test_a_reader_that_has_gone_ends_the_command_as_without_us():
    line = f"{' '.join(RUN)} -- yes | head -2"

    result = subprocess.run(
        ["bash", "-c", f"{line}; echo ${{PIPESTATUS[0]}}"], capture_output=True, timeout=30
    )

    assert result.stdout == b"y\ny\n141\n"
    assert only()[1]["stdout"].startswith(b"y\n" * 1000)


WRITER = """
import os, sys
accepted = 0
try:
    while accepted < 600_000:
        accepted += os.write(1, b"a line of twenty-four\\n")
except OSError as error:
    assert error.errno == int(sys.argv[2])
open(sys.argv[1], "w").write(str(accepted))
"""


@pytest.mark.parametrize(("pty", "number"), [("--no-pty", errno.EPIPE), ("--pty", errno.EIO)])
def test_what_the_command_wrote_while_its_reader_went_is_kept(pty, number):
    for turn in range(10):
        options = ["--run-id", f"run-{turn}", pty]
        command = [sys.executable, "-c", WRITER, str(turn), str(number)]
        reader = subprocess.Popen(["true"], stdin=subprocess.PIPE)
        result = run(*command, options=options, stdout=reader.stdin)
        reader.communicate()
        assert result.returncode == 0

    kept = {
        facts_of(facts)["run.id"]: len(data.get("stdout", b"")) for facts, data, _ in captured()
    }
    assert {f"run-{n}": int(Path(str(n)).read_text()) for n in range(10)} == kept


def test_a_closed_output_is_captured_all_the_same():
    line = f"{' '.join(RUN)} -- sh -c 'echo out; echo err >&2' >&-"

    result = subprocess.run(line, shell=True, capture_output=True, timeout=30)

    assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"err\n")
    assert only()[1]["stdout"] == b"out\n"


def test_a_full_disk_below_the_users_file_does_not_stop_the_capture():
    with open("/dev/full", "wb") as full:
        result = run("sh", "-c", "echo one; sleep 0.1; echo two", stdout=full)

    _, data, _ = only()

    assert (result.returncode, data["stdout"]) == (0, b"one\ntwo\n")
    assert b"WARNING" in data[f"azureml-logs/55_azureml-execution-{os.uname().nodename}.txt"]


@pytest.mark.parametrize("home", ["/proc/none", "/dev/null/none"])
def test_without_a_home_the_command_runs_as_if_we_were_not_there(monkeypatch, home):
    monkeypatch.setenv("LOGHAUL_HOME", home)

    result = run("sh", "-c", "echo out; echo err >&2; exit 6")

    assert (result.returncode, result.stdout, result.stderr) == (6, b"out\n", b"err\n")


def test_standard_input_is_the_users():
    assert run("cat", input=b"words").stdout == b"words"


def test_appending_to_a_file_appends():
    line = f"echo zero >f; {' '.join(RUN)} -- echo one >>f; {' '.join(RUN)} -- echo two >>f 2>&1"
    subprocess.run(line, shell=True, check=True, timeout=30)

    assert Path("f").read_text() == "zero\none\ntwo\n"


def test_what_the_launcher_tells():
    options = ["--run-id", "r1", "--experiment", "e", "--node", "n1", "--tag", "team=vision"]
    run("sh", "-c", "exit 4", options=[*options, "--attempt", "2", "--name", "try"])

    facts, data, _ = only()
    facts = facts_of(facts)
    [info] = map(json.loads, data["azureml-logs/process_info.json"].splitlines())
    statuses = list(map(json.loads, data["azureml-logs/process_status.json"].splitlines()))
    log = data["azureml-logs/55_azureml-execution-n1.txt"].decode()

    assert tuple(
        facts[name] for name in ("run.id", "experiment.name", "run.node", "run.attempt")
    ) == ("r1", "e", "n1", 2)
    assert facts["labels"] == {"team": "vision"}
    assert (
        info["process_name"],
        info["node_id"],
        info["log"],
    ) == ("main", "n1", "azureml-logs/70_driver_log.txt")
    assert [(one["process_name"], one["status"]) for one in statuses] == [
        ("main", "Started"),
        ("main", "Failed"),
        ("*", "Failed"),
    ]
    assert "ERROR command ended: exit code 4" in log


def test_a_run_inside_a_run_joins_it():
    run(*RUN, "--", "echo", "inner", options=["--run-id", "outer"])

    outer, inner = sorted(
        map(lambda got: facts_of(got[0]), captured()), key=lambda f: "parent" in f
    )

    assert (outer["run.id"], inner["run.id"]) == ("outer", "outer")
    assert (outer["role"], inner["role"]) == ("supervisor", "process")


def test_ranks_have_a_file_each():
    script = (
        "import os, subprocess, sys\n"
        "if 'RANK' not in os.environ:\n"
        "    print('launcher', flush=True)\n"
        "    ranks = [subprocess.Popen([sys.executable, __file__],\n"
        "        env={**os.environ, 'RANK': str(n), 'WORLD_SIZE': '3'}) for n in range(3)]\n"
        "    sys.exit(max(rank.wait() for rank in ranks))\n"
        "from loghaul.capture.ranks import redirect\n"
        "redirect()\n"
        "for number in range(500): print('rank', os.environ['RANK'], number, flush=True)\n"
    )
    Path("ranks.py").write_text(script)

    result = run(sys.executable, "ranks.py")
    _, data, ends = only()

    assert data["stdout"] == b"launcher\n"
    for rank in range(3):
        expected = b"".join(b"rank %d %d\n" % (rank, number) for number in range(500))
        assert expected == data[f"stdout-{rank}"]
        assert len(expected) == ends[f"stdout-{rank}"].length
    assert sorted(result.stdout.splitlines()) == sorted(
        b"".join(data[name] for name in data if name.startswith("stdout")).splitlines()
    )


def test_the_users_pythonpath_comes_behind_ours(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/one:/two")

    seen = run("sh", "-c", "echo $PYTHONPATH").stdout.decode().strip()

    assert seen.split(":")[-2:] == ["/one", "/two"]
    assert seen.split(":")[0].endswith("_hook")
