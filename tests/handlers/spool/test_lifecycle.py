"""Lock, end, reopening, release and removal of a writer's directory."""

import hashlib
import os

import pytest

from loghaul.errors import SpoolError
from loghaul.spool import (
    START,
    Limits,
    SpoolReader,
    SpoolWriter,
    abandoned,
    directories,
    saved_position,
    writers,
)
from loghaul.spool.released import remove


def crash(writer):
    """Let a writer's lock go as its death would, and nothing else."""
    writer._unlock()


def reopen(writer):
    return SpoolWriter.reopen(writer.directory, limits=Limits(reserve_bytes=0))


def test_a_living_writer_is_not_abandoned(make_writer, root):
    writer = make_writer()
    assert abandoned(root) == []
    writer.end("exit", {})
    assert abandoned(root) == []
    writer.close()
    assert abandoned(root) == []


def test_the_end_of_a_dead_writer_is_written_once(make_writer, root, read_all):
    writer = make_writer()
    out, empty = writer.stream("out", "text", "out", digest=True), "empty"
    writer.stream(empty, "events", empty)
    writer.append(out, b"all there is", 7_000_000)
    crash(writer)
    assert abandoned(root) == [writer.directory]
    assert abandoned(root) == []
    found = read_all(writer.directory)
    assert found.data("out") == b"all there is"
    assert found.ends["out"][:1] == (12,)
    assert found.ends["out"][2:] == ("lost", None, {"status": "lost"})
    assert found.ends["empty"].length == 0
    assert found.reader.ended


def test_a_reader_that_followed_sees_the_end_of_the_dead(make_writer, root, found):
    writer = make_writer()
    out = writer.stream("out", "text", "out")
    writer.append(out, b"x" * 100)
    reader, result = SpoolReader(writer.directory), found()
    result.take(reader.read())
    assert reader.read() == []
    crash(writer)
    abandoned(root)
    while not reader.ended:
        result.take(reader.read())
    assert result.ends["out"].length == 100


def test_refused_bytes_of_the_dead_are_a_gap_before_its_end(make_writer, root, read_all):
    writer = make_writer(limits=Limits(max_bytes=1, reserve_bytes=0))
    out = writer.stream("out", "text", "out")
    while writer.append(out, b"x" * 1000):
        pass
    for _ in range(10):
        writer.append(out, b"x" * 1000)
    whole = b"x" * writer._offsets[out]
    crash(writer)
    abandoned(root)
    found = read_all(writer.directory)
    assert found.is_true_of("out", whole) == len(whole) == found.ends["out"].length
    assert found.gaps["out"][0].reason == "spool full"


def test_a_root_that_is_not_there_has_no_writers(tmp_path):
    assert writers(tmp_path / "none") == []
    assert abandoned(tmp_path / "none") == []


def test_what_killed_processes_left_half_made_is_removed(root):
    made = root / f".{'a' * 32}"
    made.mkdir(parents=True)
    leaving = root / f".{'b' * 32}.removed"
    leaving.mkdir()
    (leaving / "00000001.segment").write_bytes(b"x")
    abandoned(root)
    assert sorted(root.iterdir()) == [made]
    os.utime(made, (0, 0))
    abandoned(root)
    assert list(root.iterdir()) == []


def test_reopening_goes_on_where_the_dead_stopped(make_writer, read_all):
    writer = make_writer()
    out = writer.stream("out", "text", "out", digest=True)
    log = writer.stream("log", "events", "log")
    writer.append(out, b"before ")
    writer.append(log, b"{}\n")
    crash(writer)
    again = reopen(writer)
    assert again.id == writer.id and again.started == writer.started
    assert (again.stream("out", "text", "out"), again.stream("log", "events", "log")) == (out, log)
    again.append(out, b"after")
    again.append(again.stream("new", "text", "new"), b"new")
    again.end("exit", {})
    found = read_all(writer.directory)
    again.close()
    assert found.data("out") == b"before after"
    assert found.ends["out"].sha256 == hashlib.sha256(b"before after").hexdigest()
    assert found.data("log") + found.data("new") == b"{}\nnew"


def test_reopening_what_was_partly_released_gives_up_the_digest(make_writer, found):
    writer = make_writer()
    out = writer.stream("out", "text", "out", digest=True)
    for _ in range(100):
        writer.append(out, b"x" * 10_000)
    reader, result = SpoolReader(writer.directory), found()
    result.take(reader.read(900_000))
    reader.release(reader.position)
    crash(writer)
    again = reopen(writer)
    again.append(out, b"y")
    again.end("exit", {})
    again.close()
    while not reader.ended:
        result.take(reader.read())
    assert result.data("out") == b"x" * 1_000_000 + b"y"
    assert result.ends["out"].sha256 is None


def test_a_writer_that_lives_elsewhere_cannot_be_reopened(make_writer):
    writer = make_writer()
    child = os.fork()
    if not child:
        try:
            SpoolWriter.reopen(writer.directory)
        except SpoolError as error:
            os._exit(0 if "another process" in str(error) else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_what_has_ended_cannot_be_reopened(make_writer):
    writer = make_writer()
    writer.end("exit", {})
    writer.close()
    with pytest.raises(SpoolError, match="has ended"):
        reopen(writer)


def test_releasing_frees_whole_segments_and_is_remembered(make_writer, found):
    writer = make_writer()
    out = writer.stream("out", "text", "out")
    whole = b"".join(b"%07d\n" % n for n in range(50_000))
    for n in range(50_000):
        writer.append(out, b"%07d\n" % n)
    reader, result = SpoolReader(writer.directory), found()
    result.take(reader.read(600_000))
    reader.release(reader.position)
    assert not (writer.directory / "00000001.segment").exists()
    assert saved_position(writer.directory) == reader.position
    writer.end("exit", {})
    restarted = SpoolReader(writer.directory)
    assert restarted.position == reader.position
    while not restarted.ended:
        result.take(restarted.read(100_000))
    assert result.data("out") == whole
    assert result.gaps == {}


def test_every_position_can_be_resumed(make_writer, found):
    writer = make_writer()
    numbers = [writer.stream(name, "text", name) for name in ("a", "b")]
    for n in range(30):
        writer.append(numbers[n % 2], b"%d," % n)
    late = writer.stream("late", "text", "late")
    writer.append(late, b"late")
    writer.end("exit", {})
    reader, result = SpoolReader(writer.directory, START), found()
    while not reader.ended:
        result.take(reader.read(1))
        reader = SpoolReader(writer.directory, reader.position)
        if len(result.ends) == 3:
            break
    assert result.data("a") == b"".join(b"%d," % n for n in range(0, 30, 2))
    assert result.data("b") == b"".join(b"%d," % n for n in range(1, 30, 2))
    assert result.data("late") == b"late"
    assert result.gaps == {}


def test_a_directory_that_has_ended_and_was_released_is_removed(make_writer, root):
    writer = make_writer()
    writer.append(writer.stream("out", "text", "out"), b"x")
    writer.end("exit", {})
    reader = SpoolReader(writer.directory)
    follower = SpoolReader(writer.directory)
    follower.read(1)
    early = reader.position
    while not reader.ended:
        reader.read()
    reader.release(early)
    assert writers(root) == [writer.directory]
    reader.release(reader.position)
    assert list(root.iterdir()) == []
    while not follower.ended:
        follower.read()
    assert follower.read() == []
    with pytest.raises(SpoolError, match=r"cannot read .*writer.json"):
        SpoolReader(writer.directory)


def test_a_reader_whose_directory_vanishes_is_calm(make_writer, root):
    writer = make_writer()
    out = writer.stream("out", "text", "out")
    writer.append(out, b"x")
    reader, fresh = SpoolReader(writer.directory), SpoolReader(writer.directory)
    reader.read()
    remove(writer.directory)
    assert reader.read() == [] and reader.ended
    assert fresh.read() == [] and fresh.ended
    reader.release(reader.position)
    assert writer.append(out, b"y")


def test_a_follower_that_is_behind_the_release_reports_no_gap(make_writer, found):
    writer = make_writer()
    out = writer.stream("out", "text", "out")
    follower = SpoolReader(writer.directory)
    for n in range(50_000):
        writer.append(out, b"%07d\n" % n)
    worker = SpoolReader(writer.directory)
    while worker.read():
        pass
    worker.release(worker.position)
    result = found()
    while entries := follower.read():
        result.take(entries)
    assert result.gaps == {}
    late = SpoolReader(writer.directory, START)
    assert all(entry.gap is None for entry in late.read())


def test_an_end_is_recognised_by_the_last_bytes(make_writer):
    writer = make_writer()
    writer.end("exit", {})
    assert not directories.has_ended(writer.directory)
    writer.close()
    assert directories.has_ended(writer.directory)


def test_what_is_skipped_is_a_gap_with_its_reason_and_the_digest_is_given_up(
    make_writer, root, read_all
):
    writer = make_writer()
    stream = writer.stream("stdout", "text", "p", digest=True)
    writer.append(stream, b"before\n")

    writer.skip(stream, 5, "only copied")
    writer.skip(stream, 0, "nothing")
    writer.append(stream, b"after\n")

    assert writer.length(stream) == 18
    writer.end("exit", {})
    found = read_all(writer.directory)
    [gap] = found.gaps["stdout"]
    assert (gap.offset, gap.length, gap.reason) == (7, 5, "only copied")
    assert (found.ends["stdout"].length, found.ends["stdout"].sha256) == (18, None)
    assert found.is_true_of("stdout", b"before\n.....after\n") == 18
