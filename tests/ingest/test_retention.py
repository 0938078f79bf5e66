"""Retention: which runs go and why, and a worker's part of it, stepped by hand."""

import asyncio
import os
import threading
import time

import pytest

from loghaul.config import load
from loghaul_ingest.errors import StoreError
from loghaul_ingest.retention import (
    AGE,
    EVERY_SECONDS,
    LOOK_SECONDS,
    SIZE,
    Retention,
    Rules,
    plan,
    remove,
)
from loghaul_ingest.stores import open_reader, open_writer
from loghaul_ingest.stores.base import RunRow

SECOND = 1_000_000
DAY = 86_400 * SECOND
NOW = 1_800_000_000 * SECOND


def row(run, ended_days_ago, status="completed"):
    ended = None if ended_days_ago is None else NOW - int(ended_days_ago * DAY)
    return RunRow(run, "e", "", {}, status, NOW - 400 * DAY, ended, 1, 1, 1, 0)


def chosen(rows, rules, **sizes):
    return [(one.row.run, one.reason, one.bytes) for one in plan(rows, sizes, rules, NOW)]


# The plan


def test_age_counts_from_the_end_of_a_run_and_one_that_goes_on_stays():
    rows = [
        row("old", 31),
        row("lost", 30.5, "lost"),
        row("young", 29),
        row("running", None, "running"),
        row("damaged", None, "damaged"),
    ]

    found = chosen(rows, Rules(older_than_us=30 * DAY), old=5, lost=7, young=9, running=99)

    assert found == [("old", AGE, 5), ("lost", AGE, 7)]


def test_above_a_size_runs_that_ended_first_go_first_until_the_store_is_below_it():
    rows = [row("third", 1), row("first", 3), row("second", 2), row("running", None, "running")]
    sizes = {"first": 10, "second": 20, "third": 30, "running": 40}

    for most, expected in (
        (100, []),
        (99, ["first"]),
        (90, ["first"]),
        (89, ["first", "second"]),
        (1, ["first", "second", "third"]),
    ):
        assert chosen(rows, Rules(larger_than_bytes=most), **sizes) == [
            (run, SIZE, sizes[run]) for run in expected
        ]


def test_what_goes_by_age_makes_room_too():
    rows = [row("old", 40), row("young", 2), row("younger", 1)]

    found = chosen(rows, Rules(30 * DAY, 25), old=10, young=10, younger=10)

    assert found == [("old", AGE, 10)]


def test_a_run_of_which_nothing_is_stored_makes_no_room():
    assert chosen([row("empty", 9), row("full", 1)], Rules(None, 5), full=10) == [
        ("full", SIZE, 10)
    ]


def test_a_run_that_ended_before_there_was_loghaul_has_no_age():
    unset = RunRow("unset", "e", "", {}, "completed", 5, 9, 1, 1, 1, 0)

    assert chosen([unset], Rules(older_than_us=DAY), unset=1) == []
    assert chosen([unset], Rules(larger_than_bytes=1), unset=2) == [("unset", SIZE, 2)]


def test_without_a_rule_nothing_goes():
    assert not Rules.of(load())
    assert chosen([row("old", 4000)], Rules(), old=10**15) == []


# Removing


def test_a_run_that_went_on_since_it_was_looked_at_stays(shelf):
    shelf.stream([(b"one\n", 0)], run="resumed")
    shelf.stream([(b"one\n", 0)], run="over")
    removals = plan(shelf.reader.runs(), shelf.reader.sizes(), Rules(older_than_us=DAY), NOW)
    shelf.stream([(b"two\n", 0)], run="resumed", writer="b" * 32, end=None, started=NOW)

    done, problem = asyncio.run(remove(shelf.dsn, removals))

    assert ([one.row.run for one in done], problem) == (["over"], "")
    assert [one.run for one in shelf.reader.runs()] == ["resumed"]


def test_a_run_that_cannot_be_removed_leaves_the_others_to_go(shelf, monkeypatch):
    for run in ("a", "b"):
        shelf.stream([(b"one\n", 0)], run=run)
    removals = plan(shelf.reader.runs(), shelf.reader.sizes(), Rules(older_than_us=DAY), NOW)
    really = type(shelf.store.writer()).delete_run

    async def delete_run(writer, run):
        if run == "a":
            raise StoreError("no answer")
        return await really(writer, run)

    monkeypatch.setattr(type(shelf.store.writer()), "delete_run", delete_run)

    done, problem = asyncio.run(remove(shelf.dsn, removals))

    assert [one.row.run for one in done] == ["b"]
    assert problem == "run a cannot be removed: no answer"


def test_two_that_remove_the_same_runs_at_once_are_harmless(shelf):
    for number in range(20):
        shelf.stream([(b"one\n", 0)], run=f"run-{number}")
    shelf.stream([(b"one\n", 0)], run="live", end=None, started=time.time_ns() // 1000)
    removals = plan(shelf.reader.runs(), shelf.reader.sizes(), Rules(older_than_us=DAY), NOW)
    counts = []

    def work():
        counts.append(len(asyncio.run(remove(shelf.dsn, removals)).removals))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(counts) == 20
    assert [one.run for one in shelf.reader.runs()] == ["live"]


# A worker's part


class Clock:
    def __init__(self):
        self.now = NOW / SECOND

    def __call__(self):
        return self.now

    def passes(self, seconds):
        self.now += seconds


@pytest.fixture
def notes():
    return []


@pytest.fixture
def retention(shelf, notes, tmp_path):
    """A function: settings -> Retention over the shelf, with a clock to set by hand."""
    (tmp_path / "worker").mkdir()
    clock = Clock()

    def make(**settings):
        note = lambda event, **fields: notes.append((event, fields))  # noqa: E731
        made = Retention(load(home=tmp_path, store=shelf.dsn, **settings), note, clock)
        made.clock = clock
        return made

    return make


def pass_of(retention, seconds=LOOK_SECONDS):
    """Let time pass, and a pass that is due come to its end; whether there was one."""
    retention.clock.passes(seconds)
    retention.step()
    if retention._thread is None:
        return False
    retention._thread.join()
    retention.step()
    return True


def test_a_worker_removes_what_is_due_soon_after_its_start_and_then_once_an_hour(
    shelf, retention, notes
):
    shelf.stream([(b"one\n", 0)], run="old")
    shelf.stream([(b"four\n", 0)], run="young", started=NOW - DAY)
    worker = retention(retention_days=30)

    assert not pass_of(worker, LOOK_SECONDS - 1)
    assert pass_of(worker, 1)
    assert [one.run for one in shelf.reader.runs()] == ["young"]
    assert notes == [
        (
            "runs removed",
            {"count": 1, "bytes": 4, "store_bytes": 5, "runs": {"old": AGE}},
        )
    ]
    assert (worker.removed[AGE], worker.removed[SIZE], worker.store_bytes) == (1, 0, 5)

    shelf.stream([(b"one\n", 0)], run="late")
    assert not pass_of(worker, EVERY_SECONDS - 10)
    assert len(shelf.reader.runs()) == 2
    assert pass_of(worker, 10)
    assert [one.run for one in shelf.reader.runs()] == ["young"]


def test_of_the_workers_of_a_home_one_removes_and_a_restart_does_not_begin_anew(shelf, retention):
    first, second = retention(retention_days=30), retention(retention_days=30)

    assert pass_of(first)
    assert not pass_of(second)
    assert not pass_of(retention(retention_days=30))
    assert pass_of(second, EVERY_SECONDS)
    assert not pass_of(first)


def test_a_clock_that_was_set_back_stops_nothing(shelf, retention):
    worker = retention(retention_bytes=1)
    assert pass_of(worker)

    assert pass_of(worker, -10 * EVERY_SECONDS)


def test_without_a_setting_a_worker_looks_at_nothing(shelf, retention, tmp_path):
    shelf.stream([(b"one\n", 0)])

    assert not pass_of(retention(), 10 * EVERY_SECONDS)
    assert len(shelf.reader.runs()) == 1
    assert os.listdir(tmp_path / "worker") == []


def test_a_store_that_fails_is_noted_and_tried_again_in_an_hour(
    shelf, retention, notes, monkeypatch
):
    shelf.stream([(b"one\n", 0)])
    worker = retention(retention_bytes=1)

    def fail(reader):
        raise StoreError("no answer")

    with monkeypatch.context() as patch:
        patch.setattr(type(shelf.reader), "sizes", fail)
        assert pass_of(worker)
    assert notes == [("retention failed, trying again in an hour", {"error": "no answer"})]
    assert worker.store_bytes is None

    assert pass_of(worker, EVERY_SECONDS)
    assert shelf.reader.runs() == []


def test_a_worker_that_ends_stops_between_two_runs(shelf, retention, monkeypatch):
    for number in range(3):
        shelf.stream([(b"one\n", 0)], run=f"run-{number}")
    worker = retention(retention_days=1)
    deleting, go_on = threading.Event(), threading.Event()
    really = type(shelf.store.writer()).delete_run

    async def delete_run(writer, run):
        deleting.set()
        go_on.wait(10)
        return await really(writer, run)

    monkeypatch.setattr(type(shelf.store.writer()), "delete_run", delete_run)
    worker.clock.passes(LOOK_SECONDS)
    worker.step()
    assert deleting.wait(10)

    async def close():
        closing = asyncio.create_task(worker.close())
        await asyncio.sleep(0)
        go_on.set()
        await closing

    asyncio.run(close())

    assert (worker.removed[AGE], len(shelf.reader.runs())) == (1, 2)


def test_a_late_line_of_a_run_that_was_removed_does_not_bring_it_back(shelf, retention):
    facts = shelf.stream([(b"one\n", 0)], run="old")
    assert pass_of(retention(retention_days=30))

    shelf.stream([(b"one\ntwo\n", 0)], run="old")

    assert shelf.reader.runs() == []
    writer = open_writer(shelf.dsn)
    assert asyncio.run(writer.extents({facts.stream: facts.started})) == {facts.stream: None}
    assert open_reader(shelf.dsn).sizes() == {}
