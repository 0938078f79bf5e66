"""What is wrong is said, with what to do; nothing is lost; the script's output is untouched."""

import json
import os
import shutil
import sqlite3
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from click.testing import CliRunner

from loghaul_ingest.cli import loghaul as commands

LOGHAUL = [str(Path(sys.executable).with_name("loghaul"))]
SPEAK = ["sh", "-c", "echo out; echo err >&2; exit 5"]
NAMES = {
    "up": "../../evil",
    "newline": "a\nb",
    "escape": "a\x1b[31mb\x07",
    "long": "x" * 300,
    "emoji": "🚀 run",
    "dots": ".",
    "latest": "latest",
    "no utf-8": os.fsdecode(b"bad\xff"),
    "glob": "-%2e*[!a]? ",
}


def loghaul(*args, **options):
    options = {"capture_output": True, "timeout": 60, "check": False, **options}
    return subprocess.run([*LOGHAUL, *args], **options)


def ask(*args):
    done = loghaul(*args)
    assert done.returncode == 0, (args, done.stderr)
    return done.stdout


def run(*options, command=SPEAK):
    """Run; whatever is wrong with us, the script speaks as ever."""
    done = loghaul("run", "-q", *options, "--", *command)
    if command is SPEAK:
        assert (done.returncode, done.stdout, done.stderr) == (5, b"out\n", b"err\n")
    return done


def said(done, code, *words):
    """The command ended with this code, and said on stderr all of these words, in plain text."""
    text = done.stderr.decode()
    assert done.returncode == code, text
    assert "Traceback" not in text
    assert all(line.isprintable() for line in text.splitlines()), text
    assert [word for word in words if word not in text] == [], text


@pytest.fixture
def home():
    return Path(os.environ["LOGHAUL_HOME"])


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory):
    """A home with the runs one and two, stored and at rest: no write-ahead log is left."""
    home = tmp_path_factory.mktemp("runs") / "home"
    settings = {"LOGHAUL_HOME": str(home), "LOGHAUL_BACKGROUND": "0"}
    for name in ("one", "two"):
        speak = ["run", "-q", "--run-id", name, "--", "echo", f"words of {name}"]
        loghaul(*speak, env={**os.environ, **settings})
    loghaul("runs", env={**os.environ, **settings})
    for path in home.glob("store/runs/*.db"):
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
    return home


@pytest.fixture
def read_only(two_runs, monkeypatch):
    """The home with two runs, for who changes nothing in it."""
    monkeypatch.setenv("LOGHAUL_HOME", str(two_runs))
    return two_runs


@pytest.fixture
def quiet(two_runs, home):
    """A home of the test's own with two runs."""
    shutil.copytree(two_runs, home, dirs_exist_ok=True)
    return home


def database(home, name):
    [path] = home.glob(f"store/runs/{name}-*.db")
    return path


# Names


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_any_name_is_kept_shown_safely_and_never_leaves_its_folder(name, home, tmp_path):
    tags = ["--tag", f"{name.replace('=', '')}={name}"]
    run("--run-id", name, "--node", name, "--experiment", name, "--name", name, *tags)

    [row] = json.loads(ask("runs", "-o", "json"))
    files = json.loads(ask("files", "-o", "json", "--", name))
    [hit] = map(
        json.loads, ask("search", "err stream:stderr", "--run", name, "-o", "ndjson").splitlines()
    )
    shown = [ask("runs"), ask("files", "--", name), ask("search", "out", "--run", name)]
    folder = tmp_path / "outer" / "inner"
    folder.mkdir(parents=True)
    saved = loghaul("download", "--", name, cwd=folder)
    zipped = loghaul("download", "--zip", "all.zip", "--", name, cwd=folder)
    unzipped = subprocess.run(
        [sys.executable, "-m", "zipfile", "-e", "all.zip", "unzipped"], cwd=folder, check=False
    )

    visible = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    assert {file["node"] for file in files} <= {name, visible, visible.replace("\\x", "\\udc")}
    assert (row["status"], hit["message"]) == ("failed", "err")
    for text in shown:
        assert all(line.isprintable() for line in text.decode().splitlines())
    assert (saved.returncode, zipped.returncode, unzipped.returncode) == (0, 0, 0)
    assert [path.name for path in (tmp_path / "outer").iterdir()] == ["inner"]
    assert sum(path.name == "70_driver_log.txt" for path in folder.rglob("*")) == 2
    assert {path.name for path in home.iterdir()} <= {"spool", "store", "worker", "client.log"}
    assert ask("delete", "--yes", "--", name) == b""
    assert json.loads(ask("runs", "-o", "json")) == []


def test_a_nul_in_a_variable_of_python_is_no_way_in(home):
    script = "import loghaul, logging; loghaul.init(run_id='a\\0b'); logging.error('heard')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=60)

    assert (done.returncode, b"Traceback" in done.stderr) == (0, False)
    assert b"heard" in ask("search", "heard")


# Arguments


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["nosuch"], 2, ["No such command"]),
        (["serach", "x"], 2, ["Did you mean 'search'?"]),
        (["runs", "--nonsense"], 2, ["No such option"]),
        (["runs", "--status", "bad"], 2, ["'running', 'completed', 'failed'"]),
        (["run"], 2, ["CMD"]),
        (["run", "--tag", "novalue", "--", "true"], 2, ["KEY=VALUE"]),
        (["logs"], 2, ["RUN"]),
        (["logs", "nope"], 3, ["no run 'nope'", "did you mean one?"]),
        (["logs", "no\x1b[31m\nsuch"], 3, ["\\x1b[31m"]),
        (["logs", "one", "nope.txt"], 3, ["no file 'nope.txt'", "70_driver_log.txt"]),
        (["logs", "one", "--rank", "7"], 3, ["no file of rank 7"]),
        (["logs", "one", "--attempt", "7"], 3, ["attempts: 1"]),
        (["logs", "one", "--node", "no\nde"], 3, ["nodes: "]),
        (["logs", "one", "--since", "soon"], 2, ["try 90s, 10m"]),
        (["logs", "one", "--tail", "-3"], 2, ["--tail"]),
        (["files", "nope"], 3, ["no run"]),
        (["search"], 2, ["QUERY"]),
        (["search", "x", "--run", "nope"], 3, ["no run"]),
        (["search", "x", "--facets", "nonsense"], 2, ["level, logger, file"]),
        (["search", "x", "--limit", "0"], 2, ["--limit"]),
        (["download", "one", "nope.txt"], 3, ["no file"]),
        (["download", "nope"], 3, ["no run"]),
        (["delete", "nope", "--yes"], 3, ["no run"]),
        (["delete", "one"], 2, ["--yes"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_wrong_arguments_are_told_with_what_would_be_right(read_only, args, code, words):
    done = loghaul(*args, stdin=subprocess.DEVNULL)

    said(done, code, *words)
    assert done.stdout == b""


NONSENSE = [
    '"', "(", ")", "((((", "a OR", "OR OR", "AND", "-", "--", ":", ":::", "level:", "level:>=",
    "[a TO", "rank:[1 TO", "since:zork", "/(/", "/", "/\\p{Foo}/", "*" * 500, "\\", "file:[",
    "(" * 3000, "a OR " * 2000 + "b", "é\x00\x1b", os.fsdecode(b"\xff\xfe"), "x" * 100_000,
    "nosuchfield:3", "level:>=nonsense", "level:/(/", "~", "a~2", "'", ";", "DROP TABLE", "",
]  # fmt: skip


def test_nonsense_is_searched_as_text_and_never_an_error(read_only):
    for query in NONSENSE:
        done = CliRunner().invoke(commands, ["search", "--count", "--", query])
        assert (done.exit_code, done.exception) == (0, None), query
        assert int(done.stdout) >= 0


def test_what_was_not_understood_is_hinted_at(read_only):
    said(loghaul("search", "/(/"), 0, "/(/ is no regular expression")


# Stores and spools


def garbage(path):
    path.write_bytes(b"this is no database" * 1000)


def garbage_in_the_middle(path):
    with path.open("r+b") as file:
        file.seek(6000)
        file.write(os.urandom(20_000))


def half_of_it(path):
    os.truncate(path, 9000)


@pytest.mark.parametrize("damage", [garbage, garbage_in_the_middle, half_of_it])
def test_a_damaged_run_is_named_and_costs_the_others_nothing(quiet, damage):
    path = database(quiet, "one")
    damage(path)

    rows = {row["id"]: row for row in json.loads(ask("runs", "-o", "json"))}
    for command in (["logs", "one"], ["files", "one"], ["download", "one", "-o", "-"]):
        said(loghaul(*command), 1, path.name, "damaged", "backup", "delete the run")
    everywhere = loghaul("search", '"words of" file:*driver*', "-o", "ndjson")
    said(everywhere, 1, path.name, "damaged")
    counted = loghaul("search", '"words of" file:*driver*', "--count")
    said(counted, 1, path.name, "damaged")
    doctor = loghaul("doctor")

    assert rows[path.name]["status"] == "damaged"
    assert rows["two"]["status"] == "completed"
    assert ask("logs", "two") == b"words of two\n"
    assert [json.loads(line)["run.id"] for line in everywhere.stdout.splitlines()] == ["two"]
    assert counted.stdout == b"1\n"
    assert (doctor.returncode, f"WRONG  store: {path}" in doctor.stdout.decode()) == (1, True)
    ask("delete", path.name, "--yes")
    assert ask("search", '"words of" file:*driver*', "--count") == b"1\n"


def test_what_comes_of_a_damaged_run_is_kept_beside_the_store(quiet):
    path = database(quiet, "one")
    whole = path.read_bytes()
    garbage(path)
    run("--run-id", "one")
    said(loghaul("runs"), 0)
    letters = [path for path in quiet.glob("dead-letters/**/*") if path.is_file()]
    for suffix in ("-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    path.write_bytes(whole)

    assert ask("logs", "one", "--attempt", "1") == b"words of one\n"
    assert {b"out\n", b"err\n"} <= {path.read_bytes() for path in letters}
    doctor = loghaul("doctor")
    assert f"dead letters in {quiet}" in doctor.stdout.decode()


@pytest.mark.parametrize("damage", [garbage, Path.unlink, lambda path: os.truncate(path, 0)])
def test_a_lost_catalog_is_made_anew(quiet, damage):
    ask("runs")
    catalog = quiet / "store" / "catalog.db"
    if not catalog.exists():
        pytest.skip("these runs are too young for the catalog")
    damage(catalog)

    assert {row["id"] for row in json.loads(ask("runs", "-o", "json"))} == {"one", "two"}
    assert ask("logs", "one") == b"words of one\n"


def newer_facts(directory):
    path = directory / "writer.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99}))


def newer_segment(directory):
    path = directory / "00000001.segment"
    data = bytearray(path.read_bytes())
    data[8:12] = struct.pack("<I", 9)
    data[56:60] = struct.pack("<I", zlib.crc32(bytes(data[:56])))
    path.write_bytes(data)


@pytest.mark.parametrize("change", [newer_facts, newer_segment])
def test_a_spool_of_a_newer_format_is_told_left_alone_and_taken_in_later(home, change, tmp_path):
    run("--run-id", "one")
    [directory] = [path.parent for path in home.glob("spool/*/writer.json")]
    shutil.copytree(directory, tmp_path / "kept")
    change(directory)
    changed = {path.name: path.read_bytes() for path in directory.iterdir()}

    said(loghaul("runs"), 0, "newer loghaul", "upgrade loghaul")
    said(loghaul("ingest", "--once"), 1, "newer loghaul", "upgrade loghaul")
    doctor = loghaul("doctor")

    assert b"WRONG  spool:" in doctor.stdout
    assert b"newer loghaul" in doctor.stdout
    assert changed == {
        path.name: path.read_bytes() for path in directory.iterdir() if path.name in changed
    }
    shutil.rmtree(directory)
    shutil.copytree(tmp_path / "kept", directory)
    assert sorted(ask("logs", "one").splitlines()) == [b"err", b"out"]


# Places


def without_privileges(*command, **options):
    """Run as one whom permissions bind, also where the tests run as root."""
    if os.geteuid() == 0:
        drop = "-dac_override,-dac_read_search"
        command = ("setpriv", "--bounding-set", drop, "--inh-caps", drop, *command)
    return subprocess.run(command, capture_output=True, timeout=60, check=False, **options)


needs_setpriv = pytest.mark.skipif(
    os.geteuid() == 0 and shutil.which("setpriv") is None,
    reason="root writes everywhere, and there is no setpriv to change that",
)


@needs_setpriv
@pytest.mark.timeout(180)
@pytest.mark.parametrize("mode", [0o500, 0o000], ids=["read-only", "unreadable"])
def test_a_home_that_is_not_ours_stops_no_script_and_is_told(quiet, mode):
    run("--run-id", "three")
    folders = [quiet, *(path for path in quiet.rglob("*") if path.is_dir())]
    try:
        for folder in reversed(folders):
            folder.chmod(mode)
        spoken = without_privileges(*LOGHAUL, "run", "-q", "--", *SPEAK)
        session = "import loghaul, logging; loghaul.init(); logging.error('heard'); print('on')"
        script = without_privileges(sys.executable, "-c", session)
        listed = without_privileges(*LOGHAUL, "runs")
        logs = without_privileges(*LOGHAUL, "logs", "one")
        once = without_privileges(*LOGHAUL, "ingest", "--once")
        doctor = without_privileges(*LOGHAUL, "doctor")
    finally:
        for folder in folders:
            folder.chmod(0o700)

    assert (spoken.returncode, spoken.stdout, spoken.stderr) == (5, b"out\n", b"err\n")
    assert (script.returncode, script.stdout, script.stderr) == (0, b"on\n", b"ERROR:root:heard\n")
    said(once, 1, str(quiet), "not all could be stored" if mode else "Permission denied")
    assert (doctor.returncode, f"{quiet} cannot be written" in doctor.stdout.decode()) == (1, True)
    if mode:
        said(listed, 0, "the newest lines may be missing")
        said(logs, 0)
        assert logs.stdout == b"words of one\n"
    else:
        said(listed, 1, "Permission denied")
        said(logs, 1, "Permission denied")
    assert sorted(ask("logs", "three").splitlines()) == [b"err", b"out"], "nothing is lost"


@pytest.mark.parametrize("place", ["/proc/none", "/dev/null/none", "/dev/full"])
def test_a_home_that_cannot_be_stops_no_script_and_is_told(place, monkeypatch):
    monkeypatch.setenv("LOGHAUL_HOME", place)

    run()
    for command in (["runs"], ["logs", "latest"], ["ingest", "--once"], ["doctor"]):
        done = loghaul(*command)
        assert b"Traceback" not in done.stderr + done.stdout
        assert done.returncode in ((0, 1) if command == ["runs"] else (1, 3)), command


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 8 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root can make a small disk")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_leaves_the_output_alone_and_the_loss_is_a_gap(small_disk, monkeypatch):
    monkeypatch.setenv("LOGHAUL_HOME", str(small_disk / "home"))
    lines = "for n in range(500000): print('line', n, 'of a disk', n * 7919 % 100003)"
    expected = b"".join(b"line %d of a disk %d\n" % (n, n * 7919 % 100003) for n in range(500_000))

    done = run("--run-id", "full", command=[sys.executable, "-c", lines])
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    files = {file["path"]: file for file in json.loads(ask("files", "full", "-o", "json"))}
    driver = files["azureml-logs/70_driver_log.txt"]
    raw = loghaul("logs", "full", "--raw")
    shown = ask("logs", "full", "--tail", "1").decode()

    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == expected
    gaps = [gap for gap in driver["gaps"] if gap["stream"] == "stdout"]
    # What is small may find room again between what does not.
    kept, at = [], 0
    for gap in gaps:
        kept.append(expected[at : gap["offset"]])
        at = gap["offset"] + gap["length"]
    kept.append(expected[at:])
    assert {gap["reason"] for gap in gaps} == {"disk full"}
    assert raw.stdout == b"".join(kept)
    assert f"{sum(gap['length'] for gap in gaps):,} bytes are missing" in raw.stderr.decode()
    assert "never arrived: disk full" in shown
    assert driver["complete"] is False


def test_a_store_without_space_loses_nothing_and_goes_on_when_there_is_some(
    small_disk, tmp_path, monkeypatch
):
    monkeypatch.setenv("LOGHAUL_STORE", str(small_disk / "store"))
    block = small_disk / "block"
    with block.open("wb") as file:
        try:
            while file.write(os.urandom(65536)):
                file.flush()
        except OSError:
            pass

    run("--run-id", "one")
    stuck = loghaul("logs", "one")
    block.unlink()

    assert stuck.returncode in (1, 3)
    assert b"no space left" in stuck.stderr or b"cannot be used" in stuck.stderr
    assert b"Traceback" not in stuck.stderr
    assert sorted(ask("logs", "one").splitlines()) == [b"err", b"out"]
