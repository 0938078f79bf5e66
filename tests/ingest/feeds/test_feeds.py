"""What every feed promises, and what that of a topic does when its brokers fail."""

import time

import pytest

from loghaul.chunk import TEXT
from loghaul.config import load
from loghaul.spool import SpoolWriter
from loghaul_ingest.feeds import open_feed
from loghaul_ingest.feeds.memory import MemoryFeed
from loghaul_ingest.feeds.spool import SpoolFeed
from loghaul_ingest.feeds.topic import TopicFeed


class InSpool:
    def __init__(self, folder, topic):
        self._writers, self._folder = [], folder
        self.feed = None

    def open(self):
        self.feed = SpoolFeed(self._folder, "run-1")

    def say(self, run, data):
        writer = SpoolWriter(self._folder, {"run.id": run})
        writer.append(writer.stream("stdout", TEXT, "out.txt"), data)
        self._writers.append(writer)

    def close(self):
        for writer in self._writers:
            writer.close()
        self.feed.close()


class InTopic:
    def __init__(self, folder, topic):
        self.topic = topic

    def open(self):
        self.feed = TopicFeed(self.topic.connect, "run-1")

    def say(self, run, data):
        self.topic.put(run, data, writer=f"{len(data):032x}")

    def close(self):
        self.feed.close()
        assert all(one.closed for one in self.topic.connections)


@pytest.fixture(params=[InSpool, InTopic])
def place(request, tmp_path, topic):
    made = request.param(tmp_path / "spool", topic)
    yield made
    made.close()


def taken(feed, count):
    """So many chunks, as soon as they are there."""
    found, until = [], time.monotonic() + 10
    while len(found) < count:
        assert time.monotonic() < until
        feed.wait()
        found += [chunk.data for chunk in feed.take()]
    return found


def until(true):
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_it_gives_what_was_there_and_what_comes_of_its_run_alone(place):
    place.say("run-1", b"before\n")
    place.say("run-2", b"other\n")
    place.open()
    assert taken(place.feed, 1) == [b"before\n"]
    until(lambda: place.feed.current)
    place.say("run-1", b"and then\n")
    assert taken(place.feed, 1) == [b"and then\n"]
    assert list(place.feed.take()) == []
    assert (place.feed.live, place.feed.trouble) == (True, "")


def test_a_topic_that_fails_says_why_and_goes_on_where_it_was(topic):
    feed = TopicFeed(topic.connect, "run-1")
    topic.put("run-1", b"one\n")
    assert taken(feed, 1) == [b"one\n"]
    topic.failing = True
    until(lambda: feed.trouble)
    assert (feed.live, feed.current, feed.trouble) == (False, False, "nobody answers")
    topic.put("run-1", b"two\n", 4)
    topic.failing = False
    assert taken(feed, 1) == [b"two\n"]
    assert (feed.live, feed.trouble, feed.beginnings) == (True, "", 2)
    feed.close()


def test_a_topic_that_lets_us_in_and_not_read_is_one_trouble(topic):
    topic.denied = True
    feed = TopicFeed(topic.connect, "run-1")
    until(lambda: feed.trouble)
    seen = set()

    def begun_again():
        seen.add(feed.trouble)
        return feed.beginnings > 1

    until(begun_again)
    assert seen == {"may not be read"}
    feed.close()


def test_a_topic_that_never_answers_is_closed_at_once(topic):
    topic.failing = True
    feed = TopicFeed(topic.connect, "run-1")
    until(lambda: feed.trouble)
    begun = time.monotonic()
    feed.close()
    assert time.monotonic() - begun < 2


def test_an_error_that_nobody_thought_of_ends_no_follower(topic):
    def connect():
        raise ValueError("what is this?")

    feed = TopicFeed(connect, "run-1")
    until(lambda: feed.trouble)
    assert "what is this?" in feed.trouble
    feed.close()


def test_the_settings_say_which_feed_it_is(tmp_path):
    feed, _ = open_feed(load(home=tmp_path), "run-1")
    assert isinstance(feed, SpoolFeed)
    feed, _ = open_feed(load(home=tmp_path, transport="nonsense"), "run-1")
    assert isinstance(feed, MemoryFeed)
    assert "neither kafka:// nor kafkas://" in feed.trouble
