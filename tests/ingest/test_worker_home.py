"""The worker process of a home: one at a time, stopped in order, asked to flush by readers."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest

from loghaul import config
from loghaul.spool import SpoolWriter
from loghaul_ingest import retention, worker
from loghaul_ingest.stores import open_reader


@pytest.fixture
def settings(tmp_path):
    return config.load(home=tmp_path / "home")


@pytest.fixture
def writer(settings):
    writer = SpoolWriter(settings.spool, {"run.id": "run", "role": "process"})
    yield writer
    writer.close()


def stored(settings):
    reader = open_reader(settings.store)
    try:
        return {row.facts.stream.stream: row.stored for row in reader.streams("run")}
    finally:
        reader.close()


def start(settings, *options):
    return subprocess.Popen(
        [sys.executable, "-m", "loghaul_ingest", "ingest", *options],
        env={**os.environ, "LOGHAUL_HOME": str(settings.home)},
        stdin=subprocess.DEVNULL,
    )


def wait_for_lock(settings):
    until = time.monotonic() + 20
    while time.monotonic() < until:
        try:
            with worker._lock(settings):
                pass
        except worker.Busy:
            return
        time.sleep(0.01)
    raise AssertionError("no worker came up")


def test_catching_up_without_a_worker_stores_all_that_lies_in_the_spool(settings, writer):
    stream = writer.stream("stdout", "text", "out.txt")
    writer.append(stream, b"one\nunfinished")
    assert worker.catch_up(settings, 10)
    assert stored(settings) == {"stdout": 14}


def test_catching_up_with_nothing_captured_touches_nothing(settings):
    assert worker.catch_up(settings, 10)
    assert not settings.home.exists()


def test_catching_up_beside_a_worker_waits_for_its_flush(settings, writer):
    stream = writer.stream("stdout", "text", "out.txt")
    process = start(settings)
    try:
        wait_for_lock(settings)
        for number in range(3):
            writer.append(stream, b"line\n")
            assert worker.catch_up(settings, 10)
            assert stored(settings) == {"stdout": 5 * (number + 1)}
    finally:
        process.terminate()
        assert process.wait(20) == 0
    assert os.listdir(settings.home / "worker" / "flush") == []


def test_catching_up_is_bounded_when_the_worker_does_not_answer(settings, writer):
    writer.append(writer.stream("stdout", "text", "out.txt"), b"one\n")
    (settings.home / "worker").mkdir()
    with open(settings.home / "worker" / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = worker.catch_up(settings, 0.1)
    assert (bool(found), "still" in found.reason) == (False, True)


def test_a_home_that_cannot_be_written_is_not_caught_up_and_says_why(tmp_path, writer, settings):
    writer.append(writer.stream("stdout", "text", "out.txt"), b"one\n")
    (tmp_path / "file").write_text("")
    blocked = config.load(home=tmp_path / "file", spool=settings.spool)
    found = worker.catch_up(blocked, 1)
    assert (bool(found), "cannot be written" in found.reason) == (False, True)


def test_two_workers_never_serve_one_home(settings):
    with worker._lock(settings), pytest.raises(worker.Busy):
        worker.once(settings)


def test_once_writes_the_end_of_a_writer_that_died(settings):
    script = (
        "import os, sys; from pathlib import Path; from loghaul.spool import SpoolWriter;"
        "writer = SpoolWriter(Path(sys.argv[1]), {'run.id': 'run'});"
        "writer.append(writer.stream('stdout', 'text', 'out.txt'), b'last words');"
        "os.kill(os.getpid(), 9)"
    )
    died = subprocess.run([sys.executable, "-c", script, str(settings.spool)], check=False)
    assert died.returncode == -signal.SIGKILL
    worker.once(settings)
    reader = open_reader(settings.store)
    (row,) = reader.streams("run")
    reader.close()
    assert (row.stored, row.lines, row.facts.end.cause) == (10, 1, "lost")
    assert os.listdir(settings.spool) == []


def test_sigterm_ends_a_worker_in_order_and_the_next_one_goes_on(settings, writer):
    stream = writer.stream("stdout", "text", "out.txt")
    process = start(settings)
    wait_for_lock(settings)
    stop = threading.Event()
    sent = 0
    until = time.monotonic() + 0.5
    while time.monotonic() < until:
        writer.append(stream, b"line of text\n")
        sent += 13
        stop.wait(0.0005)
    process.terminate()
    assert process.wait(20) == 0
    worker.once(settings)
    assert stored(settings) == {"stdout": sent}


def test_a_worker_in_the_background_ends_at_once_where_one_serves(settings):
    with worker._lock(settings):
        assert start(settings, "--background").wait(30) == 0


def test_a_worker_ends_when_nobody_captures_any_more(settings):
    writer = SpoolWriter(settings.spool, {"run.id": "run"})
    writer.append(writer.stream("stdout", "text", "out.txt"), b"one\n")
    writer.end("exit", {})
    writer.close()
    worker.serve(settings, until_idle_seconds=0.2)
    assert stored(settings) == {"stdout": 4}
    assert os.listdir(settings.spool) == []


def test_once_beside_a_worker_waits_until_that_one_took_everything_in(settings, writer):
    stream = writer.stream("stdout", "text", "out.txt")
    process = start(settings)
    try:
        wait_for_lock(settings)
        writer.append(stream, b"line\n")
        assert start(settings, "--once").wait(30) == 0
        assert stored(settings) == {"stdout": 5}
    finally:
        process.terminate()
        assert process.wait(20) == 0


def test_a_worker_whose_home_was_removed_ends_and_releases_nothing_of_the_new_one(settings):
    process = start(settings)
    try:
        wait_for_lock(settings)
        shutil.rmtree(settings.home)
        writer = SpoolWriter(settings.spool, {"run.id": "run", "role": "process"})
        writer.append(writer.stream("stdout", "text", "out.txt"), b"of the new home\n")
        assert process.wait(20) == 0
        assert worker.catch_up(settings, 10)
        writer.close()
    finally:
        process.kill()
        process.wait()
    assert stored(settings) == {"stdout": 16}


def test_a_worker_that_serves_removes_what_retention_tells_it_to(settings, monkeypatch):
    writer = SpoolWriter(settings.spool, {"run.id": "run", "role": "session"})
    writer.append(writer.stream("stdout", "text", "out.txt"), b"one\n")
    writer.end("closed", {"status": "completed"})
    writer.close()
    assert worker.catch_up(settings, 10) and stored(settings)
    monkeypatch.setattr(retention, "LOOK_SECONDS", 0.0)
    bounded = replace(settings, retention_bytes=1)

    def end_when_removed():
        until = time.monotonic() + 20
        while stored(settings) and time.monotonic() < until:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    watcher = threading.Thread(target=end_when_removed)
    watcher.start()
    worker.serve(bounded)
    watcher.join()

    assert stored(settings) == {}
    assert '"runs": {"run": "size"}' in (settings.home / "worker" / "log").read_text()
