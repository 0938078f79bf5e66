"""The command itself: start-up, exit codes, pipes; in processes of their own."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from loghaul_ingest.cli import COMMANDS

LOGHAUL = [sys.executable, "-m", "loghaul_ingest"]


def loghaul(*args, home=None, **options):
    environment = {**os.environ, **({"LOGHAUL_HOME": str(home)} if home else {})}
    return subprocess.run(
        [*LOGHAUL, *args], env=environment, capture_output=True, timeout=60, **options
    )


def test_the_version_is_printed_without_importing_any_third_party_but_click():
    code = (
        "import sys\nsys.argv = ['loghaul', '--version']\n"
        "from loghaul_ingest.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert end.code == 0, end.code\n"
        "import sysconfig\n"
        "bought = (sysconfig.get_paths()['purelib'], sysconfig.get_paths()['platlib'])\n"
        "names = {n.partition('.')[0] for n, m in sys.modules.items()\n"
        "    if str(getattr(m, '__file__', None) or '').startswith(bought) and n[0] != '_'}\n"
        "print(sorted(names))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    version, names = done.stdout.splitlines()
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    assert version == f"loghaul {project['version']}"
    assert names == "['click']"


def test_help_lists_every_command_and_imports_none():
    done = loghaul("--help", text=True)
    assert [name for name in COMMANDS if f"  {name} " not in done.stdout] == []


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_help(name):
    done = loghaul(name, "--help", text=True)
    assert (done.returncode, done.stdout.startswith("Usage: ")) == (0, True)
    assert "loghaul " in done.stdout.split("Options:")[0]


def test_a_missing_library_is_named_with_the_way_to_get_it():
    code = (
        "import sys\nsys.modules['orjson'] = None\nsys.argv = ['loghaul', 'runs', '-o', 'json']\n"
        "import loghaul_ingest.cli as cli\n"
        "cli.COMMANDS['runs'] = ('orjson', 'runs', '')\ncli.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("loghaul: `loghaul runs` ")


def test_an_empty_home_is_told_as_such(tmp_path):
    done = loghaul("runs", home=tmp_path / "none", text=True)
    assert (done.returncode, done.stdout) == (0, "")
    assert "no runs yet" in done.stderr
    done = loghaul("logs", "latest", home=tmp_path / "none", text=True)
    assert (done.returncode, "there are no runs yet" in done.stderr) == (3, True)
    assert not (tmp_path / "none").exists()


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A home with one run of 20,000 lines."""
    home = tmp_path_factory.mktemp("captured")
    code = (
        "import sys\n"
        "for n in range(20000): print('line', n, file=sys.stderr if n % 7 == 0 else sys.stdout)"
    )
    environment = {**os.environ, "LOGHAUL_HOME": str(home), "LOGHAUL_BACKGROUND": "0"}
    command = [*LOGHAUL, "run", "-q", "--run-id", "big", "--", sys.executable, "-c", code]
    with open(home / "out", "wb") as out, open(home / "err", "wb") as err:
        subprocess.run(command, env=environment, stdout=out, stderr=err, timeout=60, check=True)
    return home


def test_every_byte_comes_back_through_the_whole_pipeline(home, tmp_path):
    for name in ("out", "err"):
        done = loghaul("logs", "big", "--raw", "--stream", f"std{name}", home=home)
        assert done.stdout == (home / name).read_bytes()
    assert loghaul("download", "big", "-d", str(tmp_path / "d"), home=home).returncode == 0
    manifest = json.loads((tmp_path / "d/loghaul-manifest.json").read_text())
    driver = next(file for file in manifest["files"] if "70_driver" in file["path"])
    assert driver["verified"] is True
    digests = {stream["name"]: stream["sha256"] for stream in driver["streams"]}
    for name in ("out", "err"):
        assert digests[f"std{name}"] == hashlib.sha256((home / name).read_bytes()).hexdigest()


def test_output_into_a_closed_pipe_ends_without_a_word(home):
    command = [*LOGHAUL, "logs", "big"]
    environment = {**os.environ, "LOGHAUL_HOME": str(home)}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.read(10)
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(timeout=30) == 141


@pytest.mark.parametrize("args", [("logs", "big"), ("runs",), ("search", "line", "--count")])
def test_an_output_that_is_full_is_told(home, args):
    environment = {**os.environ, "LOGHAUL_HOME": str(home)}
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*LOGHAUL, *args], env=environment, stdout=full, stderr=subprocess.PIPE, timeout=60
        )

    said = b"loghaul: cannot write the output: No space left on device\n"
    assert (done.returncode, done.stderr) == (1, said)


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (("runs",), 0),
        (("files", "big"), 0),
        (("logs", "big", "--tail", "3"), 0),
        (("logs", "big", "-f", "--raw"), 2),
        (("search", "line"), 0),
        (("search", "line", "--count"), 0),
        (("download", "big", "--zip", "-"), 2),
        (("download", "big", "70_driver_log.txt", "-o", "-"), 2),
        (("delete", "nothing"), 3),
        (("ingest", "--once"), 0),
        (("doctor", "-o", "json"), 0),
        (("config",), 0),
        (("completion", "bash"), 0),
        (("--version",), 0),
        (("run", "-q", "--run-id", "shut", "--", "sh", "-c", "echo kept; exit 6"), 6),
    ],
)
def test_a_closed_stdout_is_no_error_of_any_command(home, tmp_path, args, code):
    at = tmp_path if args[0] == "run" else home
    command = " ".join([*LOGHAUL, *(f"'{arg}'" for arg in args)])
    done = subprocess.run(
        f"{command} >&-",
        shell=True,
        env={**os.environ, "LOGHAUL_HOME": str(at)},
        capture_output=True,
        timeout=60,
        text=True,
    )
    assert ("Traceback" in done.stderr, done.returncode) == (False, code), done.stderr


def test_a_home_that_cannot_be_written_is_read(home):
    if os.geteuid() == 0:
        pytest.skip("root writes everywhere")
    loghaul("runs", home=home)
    home.chmod(0o500)
    try:
        assert loghaul("logs", "big", "--tail", "1", home=home).stdout == b"line 19999\n"
    finally:
        home.chmod(0o700)


def test_following_ends_with_the_run_and_gives_every_line_once(tmp_path):
    code = (
        "import time\n"
        "for n in range(60): print('line', n, flush=True); time.sleep(0.02)\n"
        "print('unfinished', end='')"
    )
    environment = {**os.environ, "LOGHAUL_HOME": str(tmp_path)}
    command = [*LOGHAUL, "run", "-q", "--run-id", "live", "--", sys.executable, "-c", code]
    runner = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)
    assert runner.stdout.readline() == b"line 0\n"
    follower = subprocess.Popen(
        [*LOGHAUL, "logs", "live", "-f"], env=environment, stdout=subprocess.PIPE
    )
    # Read on: a run whose output nobody reads stands still, as it would without us.
    runner.communicate(timeout=30)
    out, _ = follower.communicate(timeout=30)
    assert out.split(b"\n")[:-1] == [b"line %d" % n for n in range(60)] + [b"unfinished"]
    assert follower.returncode == 0


def test_ctrl_c_ends_a_follow_with_130(tmp_path):
    environment = {**os.environ, "LOGHAUL_HOME": str(tmp_path)}
    sleeper = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]
    runner = subprocess.Popen(
        [*LOGHAUL, "run", "-q", "--run-id", "live", "--", *sleeper],
        env=environment,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert runner.stdout.readline() == b"up\n"
        command = [sys.executable, "-X", "faulthandler", *LOGHAUL[1:], "logs", "live", "-f"]
        follower = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert follower.stdout.readline() == b"up\n"
        follower.send_signal(signal.SIGINT)
        try:
            _, said = follower.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            follower.send_signal(signal.SIGABRT)  # it tells where it stands
            _, said = follower.communicate(timeout=30)
        assert (follower.returncode, b"Traceback" in said) == (130, False), said.decode()
    finally:
        runner.terminate()
        runner.communicate(timeout=30)


def test_doctor_finds_what_is_wrong_and_says_what_to_do(home, tmp_path):
    good = loghaul("doctor", "-o", "json", home=home)
    assert [item for item in json.loads(good.stdout) if item["state"] == "wrong"] == []
    assert good.returncode == 0
    (tmp_path / "store/runs").mkdir(parents=True)
    (tmp_path / "store/runs/bad.db").write_bytes(b"this is no database at all" * 100)
    bad = loghaul("doctor", home=tmp_path, text=True)
    assert bad.returncode == 1
    assert "WRONG  store:" in bad.stdout
    assert "\n       -> " in bad.stdout


def test_start_up_is_quick():
    began = time.perf_counter()
    loghaul("--version")
    # A bound against accidents (an eager import of rich or asyncio), not a benchmark.
    assert time.perf_counter() - began < 2.0


def test_config_says_where_a_setting_comes_from(tmp_path):
    found = json.loads(loghaul("config", "-o", "json", home=tmp_path).stdout)
    assert found["home"]["value"] == str(tmp_path)
    assert found["home"]["origin"] == "LOGHAUL_HOME"
    assert found["experiment"]["origin"] == "default"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script_for_the_shell(shell):
    done = loghaul("completion", shell, text=True)
    assert (done.returncode, "_LOGHAUL_COMPLETE" in done.stdout) == (0, True)


def test_run_ids_are_completed(home):
    loghaul("runs", home=home)
    environment = {
        **os.environ,
        "LOGHAUL_HOME": str(home),
        "_LOGHAUL_COMPLETE": "bash_complete",
        "COMP_WORDS": "loghaul logs bi",
        "COMP_CWORD": "2",
    }
    done = subprocess.run(LOGHAUL, env=environment, capture_output=True, text=True, timeout=30)
    assert "plain,big" in done.stdout.split()


def test_a_run_that_has_no_file_yet_is_waited_for(tmp_path):
    code = (
        "import loghaul, logging, os, sys\n"
        "loghaul.init(run_id='early')\n"
        "print('begun', flush=True)\n"
        "sys.stdin.readline()\n"
        "logging.getLogger('train').warning('the first line')\n"
    )
    environment = {**os.environ, "LOGHAUL_HOME": str(tmp_path), "LOGHAUL_BACKGROUND": "0"}
    options = {"env": environment, "stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    script = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL, **options)
    assert script.stdout.readline() == b"begun\n"
    command = [*LOGHAUL, "logs", "earl", "-f"]
    following = subprocess.Popen(command, stderr=subprocess.PIPE, **options)
    assert b"early has nothing of this yet" in following.stderr.readline()
    script.communicate(b"go on\n", timeout=30)
    out, _ = following.communicate(timeout=30)
    assert (following.returncode, out.endswith(b"|train|WARNING|the first line\n")) == (0, True)
    assert loghaul("logs", "early", "-f", "--rank", "3", home=tmp_path).returncode == 3
