import time

import pytest

from clock import Clock
from loghaul.chunk import TEXT
from loghaul.spool import SpoolWriter
from loghaul_ingest import files as tree_of
from loghaul_ingest.feeds.spool import SpoolFeed
from loghaul_ingest.follow import Follower
from loghaul_ingest.pieces import Hole
from loghaul_ingest.runs import attempts

LOG = "azureml-logs/70_driver_log.txt"


@pytest.fixture
def spool(tmp_path):
    """Makes writers of run-1; closes them."""
    made = []

    def make(run="run-1", **facts):
        facts = {"run.id": run, "run.node": "node-a", "role": "supervisor", **facts}
        made.append(SpoolWriter(tmp_path / "spool", facts))
        return made[-1]

    yield make
    for writer in made:
        writer.close()


@pytest.fixture
def follow(shelf, tmp_path):
    made = []

    def make(run="run-1", **options):
        def choose(rows):
            return tree_of.default(tree_of.tree(rows, attempts(rows)))

        made.append(SpoolFeed(tmp_path / "spool", run))
        return Follower(shelf.reader, made[-1], run, choose, **options)

    yield make
    for one in made:
        one.close()


def data(news):
    return b"".join(item.data for _, items in news for item in items if not isinstance(item, Hole))


def history(follower):
    return b"".join(item.data for _, items in follower.history() for item in items)


def test_a_line_is_given_when_it_is_whole_and_only_once(spool, follow):
    writer = spool()
    out = writer.stream("stdout", TEXT, LOG, "stdout")
    follower = follow()
    assert follower.poll() == []
    writer.append(out, b"one\ntw")
    assert data(follower.poll()) == b"one\n"
    assert follower.poll() == []
    writer.append(out, b"o\n")
    assert data(follower.poll()) == b"two\n"


def test_between_store_and_spool_no_line_is_given_twice_or_lost(shelf, spool, follow):
    writer = spool()
    out = writer.stream("stdout", TEXT, LOG, "stdout")
    lines = [b"line %d\n" % n for n in range(20)]
    for line in lines:
        writer.append(out, line)
    stored = b"".join(lines)[:100]
    shelf.stream([(stored, 0)], writer=writer.id, end=None)
    follower = follow()
    assert history(follower) + data(follower.poll()) == b"".join(lines)


def test_what_the_spool_let_go_comes_from_the_store(shelf, spool, follow):
    writer = spool()
    follower = follow()
    out = writer.stream("stdout", TEXT, LOG, "stdout")
    writer.append(out, b"first\n")
    assert data(follower.poll()) == b"first\n"
    # The worker took in and released what this follower has not read yet.
    stream = next(iter(follower.streams.values()))
    stream.given = 0
    shelf.stream([(b"first\nsecond\n", 0)], writer=writer.id, end=None)
    writer.append(out, b"second\n")
    assert data(follower.poll()) == b"first\nsecond\n"


def test_streams_and_writers_that_join_are_followed(spool, follow):
    first = spool(**{"run.rank": 0})
    out = first.stream("stdout", TEXT, LOG, "stdout")
    follower = follow()
    first.append(out, b"zero\n")
    assert data(follower.poll()) == b"zero\n"
    second = spool(**{"run.rank": 1})
    second.append(second.stream("stdout", TEXT, LOG, "stdout"), b"one\n")
    first.append(first.stream("stderr", TEXT, LOG, "stderr"), b"err\n")
    assert sorted(data(follower.poll()).split()) == [b"err", b"one"]
    assert len(follower.files) == 2


def test_other_runs_are_left_alone(spool, follow):
    other = spool(run="run-2")
    other.append(other.stream("stdout", TEXT, LOG, "stdout"), b"other\n")
    assert follow().poll() == []


def test_it_ends_with_the_run_and_gives_an_unfinished_line(spool, follow):
    writer = spool()
    out = writer.stream("stdout", TEXT, LOG, "stdout")
    follower = follow()
    writer.append(out, b"one\nlast words")
    assert data(follower.poll()) == b"one\n"
    assert follower.running
    writer.end("exit", {"exit_code": 0, "status": "completed"})
    assert data(follower.poll()) + data(follower.finish()) == b"last words"
    assert not follower.running


def test_a_writer_elsewhere_is_followed_through_the_store(shelf, follow):
    clock = Clock()
    shelf.stream([(b"one\n", 0)], end=None)
    follower = follow(clock=clock)
    assert history(follower) == b"one\n"
    shelf.stream([(b"one\ntwo\n", 0)], end="exit", cut=4)
    assert follower.poll() == []
    clock.now += 2
    assert data(follower.poll()) == b"two\n"
    assert not follower.running


def test_following_is_much_faster_than_a_person_notices(spool, follow):
    writer = spool()
    out = writer.stream("stdout", TEXT, LOG, "stdout")
    follower = follow()
    began = time.perf_counter()
    for number in range(200):
        writer.append(out, b"line %d\n" % number)
        assert data(follower.poll()) == b"line %d\n" % number
    # A bound against accidents: 200 steps, each far below the time between two looks.
    assert time.perf_counter() - began < 5
