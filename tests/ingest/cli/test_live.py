"""`logs -f` on what a feed gives beside the in-memory store."""

import time

import pytest

from loghaul.chunk import TEXT, Chunk, End, Mark, StreamKey
from loghaul_ingest.asking import at_once
from loghaul_ingest.cli import live
from loghaul_ingest.feeds.memory import MemoryFeed

LOG, INFO = "azureml-logs/70_driver_log.txt", "azureml-logs/process_info.json"
NOW = int(time.time() * 1e6)
HOUR = 3600 * 1_000_000


class Script(MemoryFeed):
    """Gives a step of chunks with each `take`."""

    def __init__(self, *steps):
        super().__init__()
        self.steps = list(steps)

    def take(self):
        return self.steps.pop(0) if self.steps else []


@pytest.fixture
def follow(call, monkeypatch, shelf):
    def run(feed, *options):
        monkeypatch.setattr(live, "open_feed", lambda settings, run: (feed, at_once))
        return call("logs", "run-1", "-f", *options)

    return run


def chunk(offset, text, ago=0, end=False, path=LOG, writer="a" * 32):
    data = text.encode()
    common = {
        "run.id": "run-1",
        "run.node": "node-a",
        "role": "supervisor",
        "log.file.path": path,
        "log.iostream": "stdout",
    }
    if path == INFO:
        del common["log.iostream"]
    last = End(offset + len(data), NOW, "exit", None, {"status": "completed"}) if end else None
    key = StreamKey("run-1", writer, "stdout" if path == LOG else "info")
    # Of this moment, not of the one in which the tests were collected.
    marks = (Mark(len(data), int(time.time() * 1e6) - ago),) if data else ()
    return Chunk(key, TEXT, offset, data, marks, NOW - HOUR, common, last)


def test_the_last_lines_are_those_that_only_the_topic_has(shelf, follow):
    shelf.stream([(b"1\n2\n3\n", 0)], end=None, started=NOW - HOUR)
    feed = Script([chunk(6, "4\n5\n")], [], [chunk(10, "6\n7\n", end=True)])
    assert follow(feed, "--tail", "3").text == "3\n4\n5\n6\n7\n"


def test_lines_from_before_a_moment_are_left_out_though_the_store_had_none(shelf, follow):
    shelf.stream([(b"1\n2\n", 0)], end=None, started=NOW - 2 * HOUR)
    steps = [chunk(4, "3\n", ago=HOUR)], [chunk(6, "4\n")], [chunk(8, "5\n", ago=HOUR, end=True)]
    # Once a line was shown what follows is shown, whatever a clock did.
    assert follow(Script(*steps), "--since", "10m").text == "4\n5\n"
    assert follow(Script(*steps)).text == "1\n2\n3\n4\n5\n"


def test_lines_are_selected_and_shown_as_those_of_the_store(shelf, follow):
    shelf.stream([(b"a 1\n", 0)], end=None, started=NOW - HOUR)
    steps = [chunk(4, "b 2\na 3\n")], [chunk(12, "a 4\n", end=True)]
    assert follow(Script(*steps), "-q", "a").text == "a 1\na 3\na 4\n"
    events = follow(Script(*steps), "-o", "ndjson", "-q", "a").ndjson()
    assert [event["message"] for event in events] == ["a 1", "a 3", "a 4"]
    assert [event["log.offset"] for event in events] == [0, 8, 12]
    assert follow(Script(*steps), "-t").text.splitlines()[-1].endswith("Z a 4")


def test_why_lines_come_late_is_said_once(shelf, follow):
    shelf.stream([(b"1\n", 0)], end=None, started=NOW - HOUR)
    feed = Script([], [], [], [chunk(2, "2\n", end=True)])
    feed.trouble = "host:9092 cannot be reached"
    done = follow(feed)
    assert done.text == "1\n2\n"
    assert done.err.count("host:9092 cannot be reached; lines are shown when they are stored") == 1


def test_what_a_run_says_of_itself_is_not_followed_for_want_of_an_output(shelf, follow):
    steps = [[chunk(0, "{}\n", path=INFO)], [], [chunk(0, "1\n")], [chunk(2, "2\n", end=True)]]
    ends = [chunk(3, "", path=INFO, end=True)]
    shelf.stream([(b"{}\n", 0)], name="info", path=INFO, end=None, started=NOW - HOUR)
    assert follow(Script(*steps, ends)).text == "1\n2\n"


def test_where_no_output_comes_what_there_is_is_shown_at_the_end(shelf, follow):
    shelf.stream([(b"{}\n", 0)], name="info", path=INFO, end=None, started=NOW - HOUR)
    assert follow(Script([], [chunk(3, "", path=INFO, end=True)])).text == "{}\n"
