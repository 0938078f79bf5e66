"""The parts of capture that need no second process."""

import errno
import json
import os
import socket
import termios
import threading
from dataclasses import replace

import pytest

from loghaul import background, config
from loghaul.capture import control, door, ranks, terminal
from loghaul.capture.board import BUFFER_BYTES, SLOTS, Board, Field
from loghaul.capture.command import CommandError, find
from loghaul.capture.job import RANKS_VARIABLE, hook_folder, job_of
from loghaul.capture.lifecycle import Lifecycle, timestamp
from loghaul.capture.output import QUEUE_BYTES, Outputs
from loghaul.capture.pipes import hold, open_queue, open_source, rest_of
from loghaul.capture.source import Phase, Source


class Kept:
    """A sink that keeps what it is given."""

    def __init__(self):
        self.data = bytearray()

    def append(self, row, data, time_us):
        self.data += data


@pytest.fixture
def source():
    """A source that copies to a file or a pipe, with the descriptor its CMD would write to."""
    opened = []

    def make(output):
        queue = open_queue(output)
        plumbing, theirs = open_source(0, 0, output, queue, "stdout", "p", False)
        opened.extend([plumbing.read_end, plumbing.private_read, plumbing.private_write, *queue])
        board, sink = Board(), Kept()
        board.sources = 1

        def again():
            return Source(plumbing, board, sink, threading.Lock(), Outputs().of(output, queue))

        return again, theirs, board, sink, plumbing

    yield make
    for descriptor in opened:
        os.close(descriptor)


def output_of(kind, tmp_path):
    if kind == "pipe":
        return os.pipe()
    flags = os.O_RDWR | os.O_CREAT | (os.O_APPEND if kind == "append" else 0)
    output = os.open(tmp_path / "file", flags)
    return os.open(tmp_path / "file", os.O_RDONLY), output


@pytest.mark.parametrize("kind", ["pipe", "file", "append"])
@pytest.mark.parametrize("phase", list(Phase))
def test_a_cycle_that_was_interrupted_anywhere_goes_on_at_the_very_byte(
    source, tmp_path, kind, phase
):
    reading, output = output_of(kind, tmp_path)
    os.write(output, b"before\n")
    again, theirs, board, sink, plumbing = source(output)
    data = b"interrupted line\n"
    board.set(0, Field.LENGTH, len(data))
    board.set(0, Field.PHASE, phase)
    if phase in (Phase.FILL, Phase.READ):
        os.write(plumbing.private_write, data)
    else:
        board.buffer(0)[: len(data)] = data
    if phase is Phase.FORWARD:
        sink.data += data
        board.set_end(0, len(data))
    os.write(theirs, b"and on\n")
    os.close(theirs)

    again().run()
    os.close(output)

    assert bytes(sink.data) == data + b"and on\n"
    assert os.read(reading, 1000) == b"before\n" + data + b"and on\n"
    assert board.get(0, Field.EOF) == 1
    os.close(reading)


@pytest.mark.parametrize("kind", ["pipe", "file", "append"])
@pytest.mark.parametrize("moved", [0, 3, 12])
@pytest.mark.parametrize("noted", [False, True])
def test_a_step_that_was_interrupted_is_neither_repeated_nor_lost(
    source, tmp_path, kind, moved, noted
):
    """Of "interrupted" 5 bytes had gone before the step, and `moved` of the rest went in it."""
    reading, output = output_of(kind, tmp_path)
    again, theirs, board, sink, plumbing = source(output)
    data, waiting = b"interrupted line\n", b"waits\n" if kind == "pipe" else b""
    target = plumbing.queue_write if kind == "pipe" else output
    os.write(target, waiting + data[:5])
    base = len(waiting) + 5 if kind == "pipe" else os.lseek(output, 0, os.SEEK_CUR)
    os.write(target, data[5 : 5 + moved])
    board.set(0, Field.LENGTH, len(data))
    board.buffer(0)[: len(data)] = data
    board.set_end(0, len(data))
    board.set(0, Field.BASE, base)
    board.set(0, Field.STEP, (5 + moved) << 1 if noted else 5 << 1 | 1)
    board.set(0, Field.PHASE, Phase.FORWARD)
    os.close(theirs)

    again().run()
    os.close(output)

    assert (os.read(reading, 1000), bytes(sink.data)) == (waiting + data, b"")
    os.close(reading)


def test_a_reader_that_does_not_read_does_not_hold_up_the_spool(source):
    """Small writes, of which the kernel packs 64 KiB into a pipe, are captured all the same."""
    reading, output = os.pipe()
    again, theirs, board, sink, _ = source(output)
    thread = threading.Thread(target=again().run, daemon=True)
    thread.start()
    written = 0
    for number in range(400):
        line = b"line %d\n" % number * 50
        os.write(theirs, line)
        written += len(line)
        while len(sink.data) < written:
            assert thread.is_alive()
    assert 65536 < written < QUEUE_BYTES

    os.close(theirs)
    got = bytearray()
    while len(got) < written:
        got += os.read(reading, 1 << 20)
    thread.join(10)
    os.close(output)

    assert got == sink.data
    assert board.get(0, Field.EOF) == 1
    os.close(reading)


def test_two_sources_of_one_output_never_break_each_others_lines(source):
    reading, output = os.pipe()
    queue = open_queue(output)
    outputs, board, sink = Outputs(), Board(), Kept()
    threads, ends = [], []
    for slot in range(2):
        plumbing, theirs = open_source(slot, slot, output, queue, f"s{slot}", "p", False)
        ends.append((plumbing, theirs))
        lock, to = threading.Lock(), outputs.of(output, queue)
        threads.append(threading.Thread(target=Source(plumbing, board, sink, lock, to).run))
    lines = [b"%d" % slot * 3000 + b"\n" for slot in range(2)]

    def write(slot):
        for _ in range(200):
            os.write(ends[slot][1], lines[slot])
        os.close(ends[slot][1])

    threads += [threading.Thread(target=write, args=(slot,)) for slot in range(2)]
    for thread in threads:
        thread.start()
    got = bytearray()
    while len(got) < 400 * 3001:
        got += os.read(reading, 1 << 20)
    for thread in threads:
        thread.join(10)

    assert sorted(got.splitlines(True)) == [lines[0]] * 200 + [lines[1]] * 200
    for plumbing, _ in ends:
        for end in (plumbing.read_end, plumbing.private_read, plumbing.private_write):
            os.close(end)
    for end in (reading, output, *queue):
        os.close(end)


def test_a_read_that_was_spooled_is_not_spooled_again(source):
    reading, output = os.pipe()
    again, theirs, board, sink, _ = source(output)
    board.buffer(0)[:4] = b"abc\n"
    board.set(0, Field.LENGTH, 4)
    board.set(0, Field.PHASE, Phase.SPOOL)
    board.set_end(0, 4)  # as the spool says after it was reopened
    os.close(theirs)

    again().run()
    os.close(output)

    assert (bytes(sink.data), os.read(reading, 10)) == (b"", b"abc\n")
    os.close(reading)


def writing(end, number):
    """Return a thread that writes until that fails with an errno, and what was accepted of it."""
    accepted, begun = bytearray(), threading.Event()

    def write():
        try:
            while True:
                count = os.write(end, data := b"%d\n" % len(accepted))
                accepted.extend(data[:count])
                begun.set()
        except OSError as error:
            assert error.errno == number

    writer = threading.Thread(target=write)
    writer.start()
    begun.wait()
    return writer, accepted


@pytest.mark.parametrize("seed", range(10))
def test_what_a_pipe_accepted_before_its_last_reader_closed_is_there_once(seed):
    read_end, theirs = os.pipe()
    writer, accepted = writing(theirs, errno.EPIPE)
    held = hold(read_end)
    found = os.read(read_end, 1000 * seed + 1)
    os.close(read_end)
    found += b"".join(rest_of(held))
    writer.join()

    assert bytes(accepted) == found
    os.close(held)
    os.close(theirs)


def test_the_rest_of_a_pipe_is_waited_for_as_long_as_somebody_else_reads_it():
    read_end, theirs = os.pipe()
    other = os.dup(read_end)
    held = hold(read_end)
    os.close(read_end)
    rest = []
    taking = threading.Thread(target=lambda: rest.extend(rest_of(held)))
    taking.start()

    os.write(theirs, b"accepted")
    assert taking.is_alive()
    os.close(other)
    taking.join()

    assert rest == [b"accepted"]
    os.close(held)
    os.close(theirs)


@pytest.mark.parametrize("seed", range(10))
def test_what_a_pty_accepted_before_it_closed_is_there_once(seed):
    ours, theirs = terminal.open_pty(0)
    writer, accepted = writing(theirs, errno.EIO)
    assert hold(ours) is None
    found = os.read(ours, 100 * seed + 1)
    found += b"".join(terminal.rest_of(ours, 1000))
    os.close(ours)
    writer.join()

    assert bytes(accepted) == found
    os.close(theirs)


def test_a_pty_that_nobody_writes_to_has_no_rest_or_what_was_left_in_it():
    ours, theirs = terminal.open_pty(0)
    assert list(terminal.rest_of(ours, 1000)) == []
    os.close(ours)
    os.close(theirs)
    ours, theirs = terminal.open_pty(0)
    os.write(theirs, b"left")
    os.close(theirs)
    assert b"".join(terminal.rest_of(ours, 1000)) == b"left"
    os.close(ours)


def test_a_reader_that_has_gone_is_told_and_what_waited_is_kept(source):
    reading, output = os.pipe()
    again, theirs, _, sink, _ = source(output)
    os.close(reading)
    os.write(theirs, b"x" * (BUFFER_BYTES + 10))

    copying = again()
    copying.run()

    assert (len(sink.data), copying.output.gone) == (BUFFER_BYTES + 10, True)
    os.close(theirs)
    os.close(output)


def test_the_last_slot_has_a_buffer_and_none_is_behind_it():
    board = Board()
    board.buffer(SLOTS - 1)[BUFFER_BYTES - 1] = 7

    with pytest.raises(IndexError):
        board.buffer(SLOTS)[0]


def test_a_pty_keeps_bytes_and_takes_the_size_of_another():
    outer, inner = os.openpty()
    termios.tcsetwinsize(inner, (31, 62))
    ours, theirs = terminal.open_pty(inner)
    os.write(theirs, b"a\tb\n")

    assert os.read(ours, 10) == b"a\tb\n"
    assert termios.tcgetwinsize(theirs) == (31, 62)
    assert not terminal.copy_size(inner, ours)
    for descriptor in (outer, inner, ours, theirs):
        os.close(descriptor)


def test_a_command_is_found_as_a_shell_does(tmp_path):
    (tmp_path / "tool").write_text("#!/bin/sh\n")
    with pytest.raises(CommandError) as refused:
        find("tool", str(tmp_path))
    (tmp_path / "tool").chmod(0o755)

    assert refused.value.exit_code == 126
    assert find("tool", f"/nowhere:{tmp_path}") == str(tmp_path / "tool")
    with pytest.raises(CommandError, match="not found on PATH"):
        find("tool", "/nowhere")


def test_the_environment_hands_the_run_down(monkeypatch):
    job = job_of(config.load(run_id="r", tags={"a": "b"}), ["true"], outer={})
    found = job.environment({"PYTHONPATH": "/mine", "X": "1"}, "door 1=2:3")

    assert (found["LOGHAUL_RUN_ID"], found["LOGHAUL_PARENT"]) == ("r", job.writer)
    assert json.loads(found["LOGHAUL_TAGS"]) == {"a": "b"}
    assert found[RANKS_VARIABLE] == "door 1=2:3"
    assert found["PYTHONPATH"] == f"{hook_folder()}{os.pathsep}/mine"
    assert job.environment({"PYTHONPATH": ""}, "")["PYTHONPATH"] == hook_folder()


def test_a_supervisor_of_one_rank_shows_its_own_file_and_opens_no_door():
    job = job_of(replace(config.load(run_id="r"), rank=3), ["true"], outer={})

    assert job.driver_log == "azureml-logs/70_driver_log_3.txt"
    assert RANKS_VARIABLE not in job.environment({RANKS_VARIABLE: "outer"}, "door")


def test_only_the_same_run_is_joined():
    outer = {"LOGHAUL_PARENT": "f" * 32, "LOGHAUL_RUN_ID": "one"}

    assert job_of(config.load(run_id="one"), ["true"], outer=outer).parent == "f" * 32
    assert job_of(config.load(run_id="two"), ["true"], outer=outer).parent is None


def test_a_line_of_the_execution_log_stays_one_line():
    said = []
    life = Lifecycle("n", (2, 3, 4), lambda row, data, time_us: said.append((row, data)))

    life.say("warning", "two\nlines", 1_000_001)

    assert said == [(2, b"1970-01-01T00:00:01.000001Z WARNING two\\nlines\n")]
    assert timestamp(0) == "1970-01-01T00:00:00.000000Z"


def test_packets_carry_descriptors_even_to_a_reader_who_comes_after_the_sender_died():
    guard, pump = control.pair()
    reading, writing = os.pipe()
    assert control.send(pump, {"source": 1}, [reading])
    for end in (pump, reading):
        os.close(end) if isinstance(end, int) else end.close()
    os.write(writing, b"still there")

    about, [got] = control.receive(guard)

    assert (about, os.read(got, 20)) == ({"source": 1}, b"still there")
    assert control.receive(guard) is None
    for descriptor in (got, writing):
        os.close(descriptor)
    guard.close()


def test_a_caller_that_talks_nonsense_gets_nothing():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for words in (b"nonsense", b"{}", b'{"rank": -1, "pid": 1, "streams": ["stdout"]}', b"[]"):
        theirs.send(words)
        assert door.request_of(ours) is None
    ours.close()
    theirs.close()


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"RANK": "0", "WORLD_SIZE": "1", ranks.VARIABLE: "x 1=0:0"},
        {"RANK": "0", "WORLD_SIZE": "2"},
        {"RANK": "0", "WORLD_SIZE": "2", ranks.VARIABLE: "nobody-listens 1=0:0"},
        {"RANK": "0", "WORLD_SIZE": "2", ranks.VARIABLE: ""},
    ],
)
def test_where_ranks_cannot_be_split_outputs_stay_as_they_are(environment):
    before = [ranks.place_of(number, number) for number in (1, 2)]

    assert not ranks.redirect(environment)
    assert [ranks.place_of(number, number) for number in (1, 2)] == before


def test_no_worker_is_started_where_one_serves_or_none_is_wanted(tmp_path, monkeypatch):
    import fcntl

    started = []
    monkeypatch.setattr(background, "_spawn", started.append)
    settings = config.load(home=tmp_path, background=True)
    (tmp_path / "worker").mkdir()
    with open(tmp_path / "worker" / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert not background.start(settings)
    assert not background.start(replace(settings, background=False))
    assert started == []
    assert background.start(settings)
    assert started == [settings]


def test_a_worker_is_nobodys_child_and_in_a_session_of_its_own(tmp_path, monkeypatch):
    def tell(file, argv, environment, **more):
        return spawn(file, [*argv[:4], "/bin/sh", "-c", TELL], environment, **more)

    monkeypatch.setattr(os, "posix_spawn", tell)
    settings = config.load(home=tmp_path, background=True)

    assert background.start(settings)

    log = tmp_path / "worker" / "log"
    for _ in range(200):
        if log.exists() and log.read_text().endswith("end\n"):
            break
        threading.Event().wait(0.02)
    ours, session, nice = log.read_text().split()[:3]
    assert session != str(os.getsid(0))
    assert ours != str(os.getpid())
    assert nice == "10"


TELL = "sleep 0.1; cut -d' ' -f4,6,19 /proc/$$/stat; echo end"
spawn = os.posix_spawn
