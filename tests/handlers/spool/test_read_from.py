"""Reading from a pipe straight into the map."""

import os
import signal

import pytest

from loghaul.spool import Limits, pipe
from loghaul.spool.format import HEADER_BYTES


@pytest.fixture
def ends():
    reading, writing = os.pipe()
    yield reading, writing
    for fd in (reading, writing):
        try:
            os.close(fd)
        except OSError:
            pass


def test_what_was_read_is_returned_and_spooled(make_writer, read_all, ends):
    writer = make_writer()
    out = writer.stream("out", "text", "out", digest=True)
    whole = b""
    for n in range(2000):
        os.write(ends[1], b"line %d\n" % n * 40)
        whole += writer.read_from(ends[0], out)
    found = read_all(writer.directory)
    assert found.data("out") == whole
    assert sum(len(entry.marks) for entry in found.entries) == 2000


def test_nothing_now_is_none_and_the_end_is_empty(make_writer, ends):
    writer = make_writer()
    out = writer.stream("out", "text", "out")
    assert writer.read_from(ends[0], out) is None
    os.set_blocking(ends[0], False)
    assert writer.read_from(ends[0], out) is None
    os.write(ends[1], b"last")
    os.close(ends[1])
    assert writer.read_from(ends[0], out) == b"last"
    assert writer.read_from(ends[0], out) == b""
    assert writer.read_from(ends[0], out) == b""


def test_at_most_the_given_number_of_bytes_is_read(make_writer, read_all, ends):
    writer = make_writer()
    out = writer.stream("out", "text", "out")
    os.write(ends[1], b"0123456789")
    assert writer.read_from(ends[0], out, 4) == b"0123"
    assert writer.read_from(ends[0], out, 400) == b"456789"
    assert read_all(writer.directory).data("out") == b"0123456789"


def test_a_terminal_ends_with_its_other_side(make_writer, read_all):
    master, slave = os.openpty()
    writer = make_writer()
    out = writer.stream("out", "text", "out")
    os.write(slave, b"hello")
    assert writer.read_from(master, out) == b"hello"
    os.close(slave)
    assert writer.read_from(master, out) == b""
    os.close(master)
    assert read_all(writer.directory).data("out") == b"hello"


def test_what_a_full_spool_refuses_is_read_all_the_same(make_writer, read_all, ends):
    writer = make_writer(limits=Limits(max_bytes=1, reserve_bytes=0))
    out = writer.stream("out", "text", "out")
    data = os.urandom(30_000)
    os.write(ends[1], data)
    assert writer.read_from(ends[0], out, 10_000) == data[:10_000]
    assert writer.read_from(ends[0], out, 20_000) == data[10_000:]
    writer.end("exit", {})
    found = read_all(writer.directory)
    assert found.is_true_of("out", data) == 30_000
    assert found.gaps["out"][-1].reason == "spool full"


@pytest.mark.parametrize("moment", ["read", "checked"])
def test_a_kill_between_read_and_commit_loses_nothing(make_writer, read_all, ends, moment):
    writer = make_writer()
    out = writer.stream("out", "text", "out")
    os.write(ends[1], b"first,")
    writer.read_from(ends[0], out)
    os.write(ends[1], b"second")

    def die(*_arguments):
        os.kill(os.getpid(), signal.SIGKILL)

    writer.keep_after_fork()
    child = os.fork()
    if not child:
        try:
            reads = pipe.read_into
            if moment == "read":
                pipe.read_into = lambda fd, into: (reads(fd, into), die())
            else:
                writer._words = Dying(writer._words, die)
            writer.read_from(ends[0], out)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    again = type(writer).reopen(writer.directory, limits=Limits(reserve_bytes=0))
    os.write(ends[1], b",third")
    assert again.read_from(ends[0], out) == b",third"
    found = read_all(writer.directory)
    again.close()
    assert found.data("out") == b"first,second,third"


class Dying:
    """Words that kill their process where a length would be stored."""

    def __init__(self, words, die):
        self.words, self.die = words, die

    def __setitem__(self, index, value):
        if value == HEADER_BYTES + len(b"second"):
            self.die()
        self.words[index] = value


def test_an_announced_read_that_never_came_is_nothing(make_writer, read_all, ends, monkeypatch):
    writer = make_writer()
    out = writer.stream("out", "text", "out")
    os.write(ends[1], b"data")

    def fails(_fd, into):
        into.release()
        raise BlockingIOError

    with monkeypatch.context() as patch:
        patch.setattr(pipe, "read_into", fails)
        assert writer.read_from(ends[0], out) is None
    assert read_all(writer.directory, concluded=True).entries == []
    assert writer.read_from(ends[0], out) == b"data"
    assert read_all(writer.directory).data("out") == b"data"
