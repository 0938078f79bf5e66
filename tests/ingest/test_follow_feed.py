"""A follower between a store and a feed that is early, late, or wrong about what it begins with."""

import time
from concurrent.futures import Future

import pytest

from clock import Clock
from loghaul.chunk import TEXT, Chunk, End, Gap, Mark, StreamKey
from loghaul_ingest import files as tree_of
from loghaul_ingest.errors import StoreAway
from loghaul_ingest.feeds.memory import MemoryFeed
from loghaul_ingest.follow import Follower
from loghaul_ingest.pieces import Hole
from loghaul_ingest.runs import attempts

KEY = StreamKey("run-1", "a" * 32, "stdout")
COMMON = {
    "run.id": "run-1",
    "run.node": "node-a",
    "role": "supervisor",
    "log.file.path": "azureml-logs/70_driver_log.txt",
    "log.iostream": "stdout",
}
#: A run of which nothing was heard for a week has ended.
NOW = int(time.time() * 1e6)
ONE, TWO, THREE = b"one\n", b"two\n", b"three\n"


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def feed():
    return MemoryFeed()


@pytest.fixture
def follow(shelf, feed, clock):
    def make(**options):
        def choose(rows):
            return tree_of.default(tree_of.tree(rows, attempts(rows)))

        return Follower(shelf.reader, feed, "run-1", choose, clock=clock, **options)

    return make


def chunk(offset, data, end=False, gaps=(), key=KEY):
    marks = (Mark(len(data), NOW),) if data else ()
    last = End(offset + len(data), NOW, "exit", None, {"status": "completed"}) if end else None
    return Chunk(key, TEXT, offset, data, marks, NOW, COMMON, last, gaps)


def given(news):
    return [
        (item.offset, item.length) if isinstance(item, Hole) else item.data
        for _, items in news
        for item in items
    ]


def history(follower):
    return given([(stream, list(items)) for stream, items in follower.history()])


def test_a_run_that_no_store_knows_is_followed_from_its_first_byte(feed, follow):
    follower = follow()
    feed.put(chunk(0, ONE), chunk(4, TWO))
    assert given(follower.poll()) == [ONE, TWO]
    assert list(feed.followed) == [KEY]


def test_chunks_that_come_again_and_cut_anew_show_no_byte_twice(feed, follow):
    follower = follow()
    feed.put(chunk(0, ONE + TWO), chunk(0, ONE), chunk(2, b"e\ntwo\nth"), chunk(4, TWO + THREE))
    assert b"".join(given(follower.poll())) == ONE + TWO + THREE


def test_what_lies_before_a_chunk_is_no_gap_but_waited_for(shelf, feed, follow, clock):
    follower = follow()
    feed.put(chunk(8, THREE))
    for _ in range(3):
        assert given(follower.poll()) == []
        clock.now += 2
    shelf.stream([(ONE + TWO, 0)], end=None)
    clock.now += 2
    assert b"".join(given(follower.poll())) == ONE + TWO + THREE
    assert KEY in feed.missed


def test_a_store_that_has_part_of_what_is_missing_gives_that_part(shelf, feed, follow, clock):
    follower = follow()
    feed.put(chunk(8, THREE))
    follower.poll()
    shelf.stream([(ONE, 0)], end=None)
    clock.now += 2
    assert given(follower.poll()) == [ONE]
    feed.put(chunk(4, TWO))
    assert given(follower.poll()) == [TWO, THREE]


def test_a_gap_that_the_feed_tells_is_shown_where_it_is(feed, follow):
    follower = follow()
    feed.put(chunk(0, ONE), chunk(8, THREE, gaps=(Gap(4, 4, "spool full"),)))
    assert given(follower.poll()) == [ONE, (4, 4), THREE]


def test_a_gap_that_the_store_tells_ends_the_waiting(shelf, feed, follow, clock):
    follower = follow()
    feed.put(chunk(0, ONE), chunk(8, THREE))
    assert given(follower.poll()) == [ONE]
    gap = Gap(4, 4, "expired in the topic before it was read")
    shelf.stream([(ONE + TWO + THREE, 0)], end=None, gaps=[gap], holes=[(4, 4)])
    clock.now += 2
    assert given(follower.poll()) == [(4, 4), THREE]


def test_a_hole_of_the_store_is_no_gap_while_the_run_goes_on(shelf, follow, clock):
    shelf.stream([(ONE + TWO + THREE, 0)], end=None, holes=[(4, 4)])
    follower = follow()
    assert history(follower) == [ONE]
    clock.now += 2
    assert given(follower.poll()) == []
    shelf.stream([(ONE + TWO + THREE, 0)], end=None, holes=[(0, 4), (8, 6)])
    clock.now += 2
    assert b"".join(given(follower.poll())) == TWO + THREE


def test_what_never_came_is_named_when_the_run_is_over(feed, follow, clock):
    feed.patience_seconds = 60.0
    follower = follow()
    feed.put(chunk(0, ONE), chunk(8, THREE, end=True))
    assert given(follower.poll()) == [ONE]
    assert (follower.running, follower.over) == (False, False)
    clock.now += 61
    assert (given(follower.poll()), follower.over) == ([], True)
    assert given(follower.finish()) == [(4, 4), THREE]


def test_an_ended_run_is_over_when_no_stream_unknown_shows_for_a_moment(feed, follow, clock):
    feed.settle_seconds = 2.0
    follower = follow()
    feed.put(chunk(0, ONE, end=True))
    assert given(follower.poll()) == [ONE]
    assert not follower.over
    other = StreamKey("run-1", "b" * 32, "stdout")
    feed.put(chunk(0, TWO, key=other))
    assert given(follower.poll()) == [TWO]
    assert follower.running
    feed.put(chunk(4, b"", end=True, key=other))
    follower.poll()
    clock.now += 3
    assert (given(follower.poll()), follower.over) == ([], True)


def test_a_store_that_agrees_is_waited_for_no_longer(shelf, feed, follow):
    feed.settle_seconds = 2.0
    shelf.stream([(ONE, 0)])
    follower = follow()
    assert history(follower) == [ONE]
    assert (given(follower.poll()), follower.over) == ([], True)


def test_while_the_feed_is_not_up_to_date_a_run_is_not_over(feed, follow):
    follower = follow()
    feed.current = False
    feed.put(chunk(0, ONE, end=True))
    follower.poll()
    assert not follower.over
    feed.current = True
    assert follower.over


def test_lines_come_while_the_store_takes_its_time(shelf, feed, follow, clock):
    asked = []

    def ask(question):
        asked.append((question, Future()))
        return asked[-1][1]

    follower = follow(ask=ask)
    feed.put(chunk(0, ONE), chunk(8, THREE))
    assert given(follower.poll()) == [ONE]
    feed.put(chunk(4, b"tw"))
    assert given(follower.poll()) == []
    shelf.stream([(ONE + TWO, 0)], end=None)
    (question, answer), *rest = asked
    assert not rest
    answer.set_result(question())
    assert given(follower.poll()) == [TWO, THREE]


def test_a_store_that_is_away_ends_nobody_who_has_live_lines(feed, follow, clock):
    follower = follow(ask=lambda question: failed(StoreAway("no answer")))
    clock.now += 2
    feed.put(chunk(0, ONE))
    assert given(follower.poll()) == [ONE]
    feed.live = False
    clock.now += 2
    with pytest.raises(StoreAway):
        follower.poll()


def failed(error):
    future = Future()
    future.set_exception(error)
    return future


def test_what_waits_is_bounded_and_comes_from_the_store_then(
    shelf, feed, follow, clock, monkeypatch
):
    monkeypatch.setattr("loghaul_ingest.follow.MOST_HELD_BYTES", 100)
    follower = follow()
    line = b"x" * 29 + b"\n"
    for number in range(1, 10):
        feed.put(chunk(number * len(line), line))
        follower.poll()
    (stream,) = follower.streams.values()
    assert stream.held == 4 * len(line)
    shelf.stream([(line * 10, 0)], end=None, cut=len(line))
    found = []
    for _ in range(3):
        clock.now += 2
        found += given(follower.poll())
    assert b"".join(found) == line * 10


def test_what_the_feed_begins_with_anew_is_in_the_store_at_once(shelf, feed, follow):
    follower = follow()
    assert given(follower.poll()) == []
    shelf.stream([(ONE, 0)], end=None)
    assert given(follower.poll()) == []
    feed.beginnings += 1
    assert given(follower.poll()) == [ONE]


def test_what_was_listened_to_is_part_of_the_history(shelf, feed, follow):
    shelf.stream([(ONE, 0)], end=None)
    follower = follow()
    feed.put(chunk(4, TWO))
    assert follower.listen()
    assert history(follower) == [ONE, TWO]
    assert given(follower.poll()) == []


def test_a_stream_whose_news_only_the_store_has_is_looked_for(shelf, feed, follow, clock):
    shelf.stream([(ONE, 0)], end=None)
    follower = follow()
    assert history(follower) == [ONE]
    shelf.stream([(ONE + TWO, 0)], end=None, cut=4)
    clock.now += 2
    assert given(follower.poll()) == [TWO]
    assert feed.missed == [KEY]
