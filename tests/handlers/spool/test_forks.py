"""Fork, and processes that share a root."""

import multiprocessing
import os
import signal
import threading

from loghaul.spool import Limits, SpoolReader, SpoolWriter, abandoned, writers


def in_child(work):
    """Run something in a forked child and return its exit code: 0 where it returned True."""
    child = os.fork()
    if not child:
        code = 1
        try:
            code = 0 if work() else 2
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_child_does_not_write_to_its_parents_segments(make_writer, read_all):
    writer = make_writer()
    out = writer.stream("out", "text", "out")
    writer.append(out, b"parent")

    def work():
        refused = not writer.append(out, b"child")
        writer.end("exit", {})
        writer.close()
        return refused and writer.forked

    assert in_child(work) == 0
    assert writer.append(out, b" goes on")
    assert not writer.forked
    assert read_all(writer.directory).data("out") == b"parent goes on"


def test_a_child_is_a_writer_of_its_own(make_writer, root, read_all):
    writer = make_writer()
    writer.append(writer.stream("out", "text", "out"), b"parent")

    def work():
        own = SpoolWriter(root, {"run.id": "run-1"}, limits=Limits(reserve_bytes=0))
        return own.append(own.stream("out", "text", "out"), b"child") and own.end("exit", {})

    assert in_child(work) == 0
    directories = writers(root)
    assert directories[0] == writer.directory and len(directories) == 2
    assert read_all(directories[1]).data("out") == b"child"


def test_a_child_that_lives_on_does_not_keep_the_lock(make_writer, root):
    writer = make_writer()
    writer.append(writer.stream("out", "text", "out"), b"x")
    (reading, writing), (heard, said) = os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        os.close(writing)
        os.write(said, b"x")
        os.read(reading, 1)
        os._exit(0)
    os.close(reading)
    os.read(heard, 1)
    writer._unlock()
    assert abandoned(root) == [writer.directory]
    for fd in (writing, heard, said):
        os.close(fd)
    os.waitpid(child, 0)


def test_a_fork_while_threads_append_leaves_both_sides_well(make_writer, read_all):
    writer = make_writer()
    out = writer.stream("out", "events", "out")
    stop = threading.Event()
    counts = []

    def work():
        count = 0
        while not stop.is_set():
            count += writer.append(out, b"0123456789\n")
        counts.append(count)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    codes = [in_child(lambda: not writer.append(out, b"child")) for _ in range(20)]
    stop.set()
    for thread in threads:
        thread.join()
    assert codes == [0] * 20
    assert read_all(writer.directory).data("out") == b"0123456789\n" * sum(counts)


def test_a_kept_writer_is_the_childs_and_is_reopened_when_the_child_died(make_writer, read_all):
    writer = make_writer()
    out = writer.stream("out", "text", "out", digest=True)
    writer.append(out, b"guard,")

    def pump():
        writer.append(out, b"pump,")
        os.kill(os.getpid(), signal.SIGKILL)

    writer.keep_after_fork()
    assert in_child(pump) == -signal.SIGKILL
    assert not writer.append(out, b"no longer mine")
    assert abandoned(writer.directory.parent) == []

    def second_pump():
        again = SpoolWriter.reopen(writer.directory, limits=Limits(reserve_bytes=0))
        return again.append(out, b"second pump") and again.end("exit", {})

    assert in_child(second_pump) == 0
    found = read_all(writer.directory)
    assert found.data("out") == b"guard,pump,second pump"
    assert found.ends["out"].sha256 is not None


def test_only_the_next_child_is_kept(make_writer):
    writer = make_writer()
    out = writer.stream("out", "text", "out")

    def pump():
        inner = in_child(lambda: writer.forked and not writer.append(out, b"grandchild"))
        return inner == 0 and writer.append(out, b"pump")

    writer.keep_after_fork()
    assert in_child(pump) == 0
    assert in_child(lambda: writer.forked) == 0


def spawned(root, queue):
    writer = SpoolWriter(root, {"run.id": "run-1"}, limits=Limits(reserve_bytes=0))
    out = writer.stream("out", "text", "out")
    queue.put(writer.id)
    for n in range(1000):
        writer.append(out, b"%d\n" % n)
    writer.end("exit", {})
    writer.close()


def test_a_reader_follows_a_writer_in_another_process(root, found):
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=spawned, args=(root, queue))
    process.start()
    reader, result = SpoolReader(root / queue.get(timeout=10)), found()
    while not reader.ended:
        result.take(reader.read())
    process.join()
    queue.close()
    assert result.data("out") == b"".join(b"%d\n" % n for n in range(1000))
    assert result.gaps == {}
