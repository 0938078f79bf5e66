"""What `append` promises, in one process."""

import hashlib
import os
import stat
import threading

import pytest

from alarms import interrupted, storm
from loghaul.errors import SpoolError
from loghaul.spool import SpoolReader, SpoolWriter


def test_bytes_come_back_as_they_were_appended_with_their_times(make_writer, read_all):
    writer = make_writer()
    out = writer.stream("stdout", "text", "a/70_driver_log.txt", "stdout", rank=3)
    assert writer.append(out, b"one\n", 1_000_000)
    assert writer.append(out, b"\xff\x00 two", 2_000_000)
    found = read_all(writer.directory)
    [entry] = found.entries
    assert (entry.offset, entry.time_us, entry.data) == (0, 1_000_000, b"one\n\xff\x00 two")
    assert entry.marks == ((4, 1_000_000), (6, 2_000_000))
    declared = found.reader.streams["stdout"]
    assert declared[2:5] == ("text", "a/70_driver_log.txt", "stdout")
    assert declared.facts == {"rank": 3}
    assert found.reader.facts == {"run.id": "run-1", "role": "process"}


def test_many_records_run_over_many_segments(make_writer, read_all):
    writer = make_writer()
    events = writer.stream("log", "events", "logs/1.log")
    lines = [b'{"n":%d}\n' % n * (n % 9 + 1) for n in range(60_000)]
    assert all(writer.append(events, line) for line in lines)
    assert len(list(writer.directory.glob("*.segment"))) >= 3
    found = read_all(writer.directory, step=100_000)
    assert b"".join(lines) == found.data("log")
    assert found.gaps == {}


def test_streams_share_segments_and_keep_their_own_offsets(make_writer, read_all):
    writer = make_writer()
    numbers = [writer.stream(f"s{n}", "text" if n % 2 else "events", f"s{n}") for n in range(5)]
    for n in range(3000):
        writer.append(numbers[n % 5], b"%d\n" % n)
    found = read_all(writer.directory)
    for place, number in enumerate(numbers):
        expected = b"".join(b"%d\n" % n for n in range(3000) if n % 5 == place)
        assert expected == found.data(f"s{number}")


def test_an_append_longer_than_a_segment_is_kept_whole(make_writer, read_all):
    writer = make_writer()
    out = writer.stream("out", "text", "out")
    long = os.urandom(9_000_001)
    assert writer.append(out, b"before") and writer.append(out, long) and writer.append(out, b"")
    assert b"before" + long == read_all(writer.directory).data("out")


def test_anything_with_a_buffer_can_be_appended_and_nothing_else_raises(make_writer, read_all):
    writer = make_writer()
    out = writer.stream("out", "text", "out")
    assert writer.append(out, bytearray(b"ab")) and writer.append(out, memoryview(b"cd"))
    assert not writer.append(out, "text")
    assert not writer.append(99, b"x")
    assert not writer.append(out, b"x", 1 << 70)
    assert not writer.append(out, None)
    assert writer.append(out, b"ef")
    assert read_all(writer.directory).data("out") == b"abcdef"
    assert sum(writer.refused.values()) == 4


def test_the_end_carries_length_cause_and_digest(make_writer, read_all):
    writer = make_writer()
    out = writer.stream("out", "text", "out", digest=True)
    events = writer.stream("log", "events", "log")
    data = [os.urandom(n) for n in range(300)]
    for piece in data:
        writer.append(out, piece)
    writer.append(events, b"{}\n")
    assert writer.end("exit", {"exit_code": 3}, 5_000_000)
    assert not writer.append(out, b"late")
    found = read_all(writer.directory)
    whole = b"".join(data)
    assert (len(whole), 5_000_000, "exit", hashlib.sha256(whole).hexdigest(), {"exit_code": 3}) == (
        found.ends["out"]
    )
    assert found.ends["log"] == (3, 5_000_000, "exit", None, {"exit_code": 3})
    assert found.reader.ended


def test_a_closed_segment_gives_its_unused_space_back(make_writer):
    writer = make_writer()
    writer.append(writer.stream("out", "text", "out"), b"x")
    segment = next(writer.directory.glob("*.segment"))
    assert segment.stat().st_blocks * 512 >= segment.stat().st_size == 256 * 1024
    writer.end("exit", {})
    writer.close()
    assert segment.stat().st_size < 4096
    writer.close()
    assert not writer.append(0, b"x")


def test_files_and_directories_are_their_owners_alone(make_writer, root):
    os.umask(os.umask(0))
    writer = make_writer()
    assert stat.S_IMODE(root.stat().st_mode) == 0o700
    assert stat.S_IMODE(writer.directory.stat().st_mode) == 0o700
    for file in writer.directory.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def test_the_same_name_is_the_same_stream(make_writer):
    writer = make_writer()
    assert writer.stream("a", "text", "a") == writer.stream("a", "text", "a")


def test_the_given_id_is_used_and_a_second_writer_of_it_is_refused(make_writer):
    writer = make_writer(writer="ab" * 16)
    assert "ab" * 16 == writer.id == SpoolReader(writer.directory).id
    with pytest.raises(SpoolError, match="exists"):
        make_writer(writer="ab" * 16)


def test_a_root_that_cannot_be_made_is_an_error_that_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolError, match=r"cannot create the spool .*file"):
        SpoolWriter(tmp_path / "file" / "spool", {})


def test_threads_interleave_whole_records(make_writer, read_all):
    writer = make_writer()
    events = writer.stream("log", "events", "log")

    def work(name):
        for n in range(4000):
            assert writer.append(events, b"%d %d %s\n" % (name, n, b"x" * (n % 50)))

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = read_all(writer.directory).data("log").splitlines()
    assert len(lines) == 16_000
    for name in range(4):
        own = [int(line.split()[1]) for line in lines if line.startswith(b"%d " % name)]
        assert list(range(4000)) == own


def test_a_signal_handler_may_append_in_the_middle_of_an_append(make_writer, read_all):
    writer = make_writer()
    events = writer.stream("log", "events", "log")
    count = 0

    def handler():
        nonlocal count
        count += 1
        assert writer.append(events, b"signal\n")
        writer.stream(f"late-{count % 3}", "text", "x")

    with storm(handler):
        for _ in range(40_000):
            assert writer.append(events, b"plain\n")
    lines = read_all(writer.directory).data("log").splitlines()
    assert count > 10
    assert (40_000, count) == (lines.count(b"plain"), lines.count(b"signal"))


def test_an_append_inside_an_append_waits_for_its_turn_without_deadlock(make_writer, read_all):
    writer = make_writer()
    out = writer.stream("out", "text", "out")

    class Meddler(bytes):
        def __len__(self):
            if not done:
                done.append(writer.append(out, b"inner"))
            return super().__len__()

    done = []
    assert writer.append(out, Meddler(b"outer"))
    assert done == [True]
    assert read_all(writer.directory).data("out") == b"outerinner"


def test_an_interrupt_in_the_middle_leaves_a_writer_that_goes_on(make_writer, read_all):
    writer = make_writer()
    out = writer.stream("out", "text", "out")

    class Interrupted(bytes):
        def __len__(self):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        writer.append(out, Interrupted(b"x"))
    assert writer.append(out, b"after")
    assert read_all(writer.directory).data("out") == b"after"


# An interrupt between opening a directory and `with` leaves it to the collector, which complains.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_keyboard_interrupts_at_random_moments_break_nothing(make_writer, found):
    writer = make_writer()
    out = writer.stream("out", "text", "out")
    reader = SpoolReader(writer.directory)
    result = found()
    interrupts = interrupted(lambda: writer.append(out, b"x" * 100), 300)
    assert writer.append(out, b"end")
    writer.end("exit", {})
    while not reader.ended:
        result.take(reader.read())
    whole = b"x" * (result.ends["out"].length - 3) + b"end"
    assert result.is_true_of("out", whole) == len(whole)
    assert interrupts == 300
    assert result.gaps == {}
