"""Bounds: who is refused, how it is counted, and that it ends when space returns."""

import errno
import os
import subprocess
import threading

import pytest

from loghaul.errors import SpoolError
from loghaul.spool import Limits, SpoolReader, budget, drop_oldest, usage, writers
from loghaul.spool import row as row_module

MIB = 1024 * 1024
LINE = b"x" * 999 + b"\n"


@pytest.fixture
def no_patience(monkeypatch):
    """Ask for room at every record instead of every 50 ms."""
    monkeypatch.setattr(row_module, "RETRY_SECONDS", 0.0)


def test_debug_is_refused_first_then_info_then_everything(make_writer, read_all, no_patience):
    writer = make_writer(limits=Limits(max_bytes=2 * MIB, reserve_bytes=0))
    log = writer.stream("log", "events", "log")
    taken = {10: 0, 20: 0, 30: 0}
    whole = LINE * 2500 * len(taken)
    for _ in range(2500):
        for severity in taken:
            taken[severity] += writer.append(log, LINE, severity=severity) and len(LINE)
    assert 0.7 * 2 * MIB < 3 * taken[10] < 0.9 * 2 * MIB
    assert taken[10] < taken[20] < taken[30]
    assert usage(writer.directory.parent) <= 2 * MIB
    writer.end("exit", {})
    found = read_all(writer.directory)
    assert found.is_true_of("log", whole) == len(whole)
    assert {gap.reason for gap in found.gaps["log"]} == {"spool full"}
    assert writer.refused["spool full"] == sum(gap.length for gap in found.gaps["log"])
    assert found.ends["log"].length == len(whole)


def test_a_refusal_ends_when_the_shipper_has_released(make_writer, found, no_patience):
    writer = make_writer(limits=Limits(max_bytes=MIB, reserve_bytes=0))
    log = writer.stream("log", "events", "log")
    count, result = 0, found()
    reader = SpoolReader(writer.directory)
    for _ in range(5):
        count += 1
        while writer.append(log, LINE, severity=40):
            count += 1
        while entries := reader.read():
            result.take(entries)
        reader.release(reader.position)
    writer.end("exit", {})
    result.take(reader.read())
    whole = LINE * count
    assert result.is_true_of("log", whole) == len(whole)
    assert len(result.gaps["log"]) == 5
    assert len(whole) > 3 * MIB


def test_a_full_disk_is_a_gap_with_that_reason_and_is_got_over(
    make_writer, read_all, no_patience, monkeypatch
):
    writer = make_writer()
    log = writer.stream("log", "events", "log")
    whole = b""

    def full(_fd, _offset, _length):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        for _ in range(1000):
            writer.append(log, LINE)
            whole += LINE
    assert writer.append(log, LINE)
    whole += LINE
    writer.end("exit", {})
    found = read_all(writer.directory)
    assert found.is_true_of("log", whole) == len(whole)
    assert [gap.reason for gap in found.gaps["log"]] == ["disk full"]


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 1 MiB, where mounting is allowed."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting is not permitted here")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_a_disk_that_is_really_full_kills_nobody(make_writer, read_all, small_disk, no_patience):
    writer = make_writer(root=small_disk)
    log = writer.stream("log", "events", "log")
    for _ in range(2000):
        writer.append(log, LINE)
    (small_disk / "of-others").write_bytes(b"x" * (1024 * 1024 - usage(small_disk) - 64 * 1024))
    assert not writer.append(log, LINE)
    (small_disk / "of-others").unlink()
    first = writer.directory / "00000001.segment"
    reader = SpoolReader(writer.directory)
    while reader.read():
        pass
    reader.release(reader.position)
    assert not first.exists()
    assert writer.append(log, LINE)
    assert writer.end("exit", {})
    whole = LINE * 2002
    found = read_all(writer.directory, position=None)
    assert found.ends["log"].length == len(whole)
    assert {gap.reason for gap in found.gaps["log"]} == {"disk full"}


def test_a_read_only_disk_is_named_too(make_writer, read_all, no_patience, monkeypatch):
    writer = make_writer()
    log = writer.stream("log", "events", "log")

    def broken(_fd, _offset, _length):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "posix_fallocate", broken)
    while writer.append(log, LINE):
        pass
    assert list(writer.refused) == ["spool cannot be written: Input/output error"]


def test_a_writer_on_a_full_disk_cannot_begin_and_leaves_nothing(make_writer, root, monkeypatch):
    def full(_fd, _offset, _length):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(SpoolError, match="No space left"):
        make_writer()
    assert list(root.iterdir()) == []


def test_the_reserve_of_the_disk_is_left_alone(make_writer, read_all, no_patience):
    writer = make_writer(limits=Limits(reserve_bytes=1 << 60))
    log = writer.stream("log", "events", "log")
    while writer.append(log, LINE, severity=50):
        pass
    assert list(writer.refused) == ["disk full"]
    assert len(list(writer.directory.glob("*.segment"))) == 1


def test_a_killed_writer_still_tells_how_much_it_refused(make_writer, read_all, no_patience):
    writer = make_writer(limits=Limits(max_bytes=1, reserve_bytes=0))
    log = writer.stream("log", "events", "log")
    other = writer.stream("other", "text", "other")
    length = 0
    for _ in range(100):
        writer.append(log, LINE)
        length += len(LINE)
    writer.append(other, b"12345")
    writer.close()
    found = read_all(writer.directory, concluded=True)
    assert found.reader.ends_with_refusals() == {0: length, 1: 5}


def test_blocking_waits_for_the_shipper_and_loses_nothing(make_writer, read_all, monkeypatch):
    monkeypatch.setattr(row_module, "RETRY_SECONDS", 0.001)
    writer = make_writer(limits=Limits(max_bytes=MIB, reserve_bytes=0, full="block"))
    log = writer.stream("log", "events", "log")
    done = threading.Event()

    def work():
        for _ in range(4000):
            assert writer.append(log, LINE, severity=10)
        writer.end("exit", {})
        done.set()

    thread = threading.Thread(target=work)
    thread.start()
    reader, length = SpoolReader(writer.directory), 0
    while not reader.ended:
        for entry in reader.read():
            assert entry.gap is None
            length += len(entry.data)
        if not reader.ended:
            reader.release(reader.position)
    thread.join()
    assert done.is_set()
    assert length == 4000 * len(LINE)
    assert writer.refused == {}


def test_dropping_the_oldest_segments_makes_gaps(make_writer, root, read_all):
    writer = make_writer()
    log = writer.stream("log", "events", "log")
    whole = LINE * 8000
    for _ in range(8000):
        writer.append(log, LINE)
    before = usage(root)
    freed = drop_oldest(root, 300 * 1024)
    assert freed >= 300 * 1024
    assert usage(root) == before - freed
    found = read_all(writer.directory)
    assert found.is_true_of("log", whole) == len(whole)
    assert [gap.reason for gap in found.gaps["log"]] == ["dropped: spool full"]
    drop_oldest(root, 1 << 60)
    assert len(list(writer.directory.glob("*.segment"))) == 1
    assert read_all(writer.directory).is_true_of("log", whole) == len(whole)


def test_dropping_under_a_reader_costs_it_nothing_but_the_dropped(make_writer, root, found):
    writer = make_writer()
    log = writer.stream("log", "events", "log")
    whole = LINE * 12_000
    for _ in range(6000):
        writer.append(log, LINE)
    reader, result = SpoolReader(writer.directory), found()
    result.take(reader.read(1000))
    position = reader.position
    for _ in range(6000):
        writer.append(log, LINE)
    drop_oldest(root, 1 << 60)
    while entries := reader.read():
        result.take(entries)
    assert result.is_true_of("log", whole) == len(whole)
    late, rest = SpoolReader(writer.directory, position), found()
    while entries := late.read():
        rest.take(entries)
    assert rest.gaps["log"][0].offset == position.ends[log]


def test_a_disk_that_cannot_be_asked_takes_nothing_new(tmp_path):
    assert budget.Budget(tmp_path / "gone", Limits()).floor(1) == (None, "disk full")


def test_usage_counts_all_writers(make_writer, root):
    assert usage(root) == 0
    make_writer(), make_writer()
    assert usage(root) == 2 * 256 * 1024
    assert len(writers(root)) == 2
