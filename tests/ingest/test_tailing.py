"""Files followed into a run: every byte once, whatever a rotation or a death does."""

import json
import os
import shutil

import pytest

from loghaul import config
from loghaul_ingest import worker
from loghaul_ingest.stores import open_reader
from loghaul_ingest.tailing import Session, file, follower
from loghaul_ingest.tailing.state import Followed, State


class Killed(BaseException):
    pass


class Tail:
    """Sessions one behind the other, and what of them is stored."""

    def __init__(self, settings, path):
        self.settings, self.path, self.said = settings, path, []

    def session(self, form="plain"):
        return Session(self.settings, [self.path], form, self.said.append)

    def take(self, session):
        """Step until nothing comes, as time passes."""
        idle = 0
        while idle < 3:
            for one in session._followers:
                if one._open is not None:
                    one._open.quiet_since -= 10
            idle = 0 if session.step() else idle + 1

    def once(self, form="plain"):
        self.session(form).once()

    def stored(self):
        """Bytes per log.iostream (or ""), of all writers in the order of their starts."""
        worker.once(self.settings, 0)
        reader = open_reader(self.settings.store)
        found = {}
        try:
            for row in reader.streams("run-1"):
                assert not row.holes and row.facts.end.length == row.stored
                name = row.facts.common.get("log.iostream", "")
                heads = [head.key for head in reader.heads(row.facts.stream)]
                data = b"".join(block.data for block in reader.load(heads))
                found[name] = found.get(name, b"") + data
        finally:
            reader.close()
        return found


@pytest.fixture
def tail(tmp_path):
    settings = config.load(home=tmp_path / "home", run_id="run-1", background=False)
    return Tail(settings, tmp_path / "app.log")


def kill(session):
    """What a SIGKILL leaves: locks free, no end, nothing noted."""
    session._writer.close()
    for one in session._followers:
        one.close()


def test_bytes_are_kept_as_they_are_and_a_restart_goes_on_behind_them(tail):
    tail.path.write_bytes(b"one\r\n\xff\x00two")
    tail.once()
    with tail.path.open("ab") as log:
        log.write(b" and a half\nthree\n")
    tail.once()
    tail.once()

    assert tail.stored() == {"": tail.path.read_bytes()}


def test_a_file_that_is_not_there_yet_is_waited_for(tail):
    session = tail.session()
    tail.take(session)
    tail.path.write_bytes(b"first\n")
    tail.take(session)
    session.close()

    assert tail.stored() == {"": b"first\n"}


def test_files_that_are_not_there_are_named(tail):
    assert tail.session().once() == [tail.path]


def test_restarts_are_no_attempts_of_the_run(tail):
    for _ in range(3):
        tail.path.write_bytes((tail.path.read_bytes() if tail.path.exists() else b"") + b"line\n")
        tail.once()
    tail.stored()
    reader = open_reader(tail.settings.store)
    (row,) = reader.runs()
    reader.close()

    assert (row.attempts, row.status, row.lines) == (1, "completed", 3)


def test_a_renamed_file_is_read_to_its_end_before_the_new_one(tail):
    tail.path.write_bytes(b"1\n")
    session = tail.session()
    tail.take(session)
    old = tail.path.open("ab")
    tail.path.rename(tail.path.with_name("app.log.1"))
    tail.path.write_bytes(b"")
    old.write(b"2\n")
    old.flush()
    tail.take(session)
    old.write(b"3\n")
    old.close()
    tail.path.write_bytes(b"4\n")
    tail.take(session)
    session.close()

    assert tail.stored() == {"": b"1\n2\n3\n4\n"}


def test_a_truncated_file_is_read_on_from_its_copy_and_then_anew(tail):
    tail.path.write_bytes(b"line 1\n")
    session = tail.session()
    tail.take(session)
    with tail.path.open("ab") as log:
        log.write(b"line 2\n")
    shutil.copy(tail.path, tail.path.with_name("app.log.1"))
    os.truncate(tail.path, 0)
    with tail.path.open("ab") as log:
        log.write(b"line 3, longer than what was there\n")
    tail.take(session)
    session.close()

    assert tail.stored() == {"": b"line 1\nline 2\nline 3, longer than what was there\n"}


def test_rotations_while_nobody_looked_are_read_in_order(tail):
    tail.path.write_bytes(b"1\n")
    tail.once()
    with tail.path.open("ab") as log:
        log.write(b"2\n")
    for number, text in enumerate((b"3\n", b"4\n")):
        if number:
            tail.path.with_name("app.log.1").rename(tail.path.with_name("app.log.2"))
        tail.path.rename(tail.path.with_name("app.log.1"))
        tail.path.write_bytes(text)
        os.utime(tail.path, ns=((number + 1) * 10**9 + 4 * 10**18,) * 2)
    tail.path.with_name("app.logger.log").write_bytes(b"of another\n")
    session = tail.session()
    tail.take(session)
    session.close()

    assert tail.stored() == {"": b"1\n2\n3\n4\n"}


def test_a_file_that_is_gone_is_said_to_be_gone(tail):
    tail.path.write_bytes(b"old\n")
    tail.once()
    tail.path.unlink()
    tail.path.write_bytes(b"another file\n")
    tail.once()

    assert tail.stored() == {"": b"old\nanother file\n"}
    assert "may be missing" in tail.said[0]


@pytest.mark.parametrize("form", ["plain", "docker", "cri"])
@pytest.mark.parametrize("shipped", [False, True], ids=["spooled", "shipped"])
@pytest.mark.parametrize("moment", range(7))
def test_a_death_at_any_moment_repeats_and_loses_nothing(moment, shipped, form, tail, monkeypatch):
    monkeypatch.setattr(follower, "READ_BYTES", 100)
    lines, wanted = _lines(form)
    tail.path.write_bytes(lines)
    deaths = iter([moment, moment, 10**9])

    while True:
        session = tail.session(form)
        left = [next(deaths)]
        monkeypatch.setattr(State, "put", _dying(State.put, left))
        monkeypatch.setattr(session._writer, "append", _dying(session._writer.append, left))
        try:
            tail.take(session)
            session.close()
            break
        except Killed:
            kill(session)
        finally:
            monkeypatch.undo()
            monkeypatch.setattr(follower, "READ_BYTES", 100)
        if shipped:
            tail.stored()

    assert tail.stored() == wanted


def _dying(call, left):
    """Die before a call, or behind it, when it is time."""

    def dying(*args, **options):
        left[0] -= 1
        if left[0] == -1:
            raise Killed
        found = call(*args, **options)
        if left[0] == 0:
            left[0] = -1
            raise Killed
        return found

    return dying


def _lines(form):
    if form == "plain":
        data = b"".join(b"line %d\n" % number for number in range(60))
        return data, {"": data}
    found, wanted = [], {"stdout": b"", "stderr": b""}
    for number in range(20):
        name, text = ("stdout", "stderr")[number % 3 == 0], f"line {number}"
        whole = number % 4 != 0
        time = f"2026-11-23T22:26:{number:02d}.123456789Z"
        wanted[name] += text.encode() + b"\n" * whole
        if form == "docker":
            text += "\n" * whole
            found.append(json.dumps({"log": text, "stream": name, "time": time}))
        else:
            found.append(f"{time} {name} {'PF'[whole]} {text}")
    return "".join(f"{line}\n" for line in found).encode(), wanted


@pytest.mark.parametrize("form", ["plain", "docker", "cri"])
def test_auto_knows_a_file_by_its_first_line(form, tail):
    lines, wanted = _lines(form)
    tail.path.write_bytes(lines)

    tail.once("auto")

    assert tail.stored() == wanted


def test_what_is_no_line_of_its_form_is_kept_as_it_stands(tail):
    lines, wanted = _lines("cri")
    tail.path.write_bytes(lines + b"no line of CRI\n" + b"2026-11-23T22:26:47Z stdout F last")

    tail.once("cri")

    wanted["stdout"] += b"no line of CRI\nlast\n"
    assert tail.stored() == wanted


def test_a_line_of_megabytes_is_read_whole(tail):
    text = "x" * 1_000_000
    line = json.dumps({"log": text + "\n", "stream": "stdout", "time": "2026-11-23T22:26:47Z"})
    tail.path.write_text(line + "\n")

    tail.once("docker")

    assert tail.stored()["stdout"] == text.encode() + b"\n"


def test_a_file_is_followed_into_a_run_by_one_process_only(tail):
    session = tail.session()
    with pytest.raises(Followed, match="by another process"):
        tail.session()
    session.close()


def test_a_slot_that_was_being_written_counts_for_nothing(tmp_path):
    state = State(tmp_path, "run", "/x")
    state.begin(state.identity)
    for position in range(1, 4):
        state.put(state.at().__class__(position, (position, 0)))
    state._map[64 + 16 : 64 + 17] = b"\xff"

    assert state.at().position == 2
    state.close()


def test_siblings_are_what_a_rotation_makes(tmp_path):
    path = tmp_path / "app.log"
    made = [
        "app.log.1",
        "app.log-20261123",
        "app-20261123.log",
        "app.log.2026-11-23_22",
        "app.1.log",
    ]
    for name in [*made, "app.log", "app.log.1.gz", "app.logger.log", "apps.log.1"]:
        (tmp_path / name).write_bytes(b"x")

    assert sorted(made) == sorted(found.name for found in file.siblings(path))
