"""prune: what goes and why is said before it goes, and the settings are the defaults."""

import time

import pytest

SECOND = 1_000_000
DAY = 86_400 * SECOND


@pytest.fixture
def ended(shelf):
    """Runs that ended so many days ago, of four bytes each, and one that goes on."""
    now = time.time_ns() // 1000
    for days in (40, 20, 10):
        shelf.stream([(b"one\n", 0)], run=f"ended-{days}", started=now - days * DAY)
    shelf.stream([(b"one\n", 99 * 86_400)], run="running", started=now - 99 * DAY, end=None)
    return shelf


def left(shelf):
    return {row.run for row in shelf.reader.runs()}


def test_runs_older_than_an_age_go(ended, call):
    done = call("prune", "--older-than", "30d", "--yes", "-o", "json")

    [run] = done.json()
    assert (run["id"], run["reason"], run["bytes"]) == ("ended-40", "age", 4)
    assert run["status"] == "completed" and run["ended"].endswith("Z")
    assert (done.code, "deleted 1 run, 4 B of 16 B" in done.err) == (0, True)
    assert left(ended) == {"ended-20", "ended-10", "running"}


def test_a_store_is_made_as_small_as_that_from_the_oldest_end_on(ended, call):
    done = call("prune", "--larger-than", "10", "--yes", "-o", "ndjson")

    assert [(run["id"], run["reason"]) for run in done.ndjson()] == [
        ("ended-40", "size"),
        ("ended-20", "size"),
    ]
    assert left(ended) == {"ended-10", "running"}


def test_a_dry_run_says_what_would_go_and_why_and_keeps_it(ended, call):
    done = call("prune", "--older-than", "30d", "--larger-than", "10", "--dry-run")

    lines = done.text.splitlines()
    assert [line.split()[0] for line in lines] == ["RUN", "ended-40", "ended-20"]
    # A run of the shelf ends a minute after its start.
    assert lines[1].endswith("ended 40d00h ago") or lines[1].endswith("ended 39d23h ago")
    assert lines[2].endswith("the store is too large")
    assert (done.code, "would delete 2 runs, 8 B of 16 B" in done.err) == (0, True)
    assert len(left(ended)) == 4


def test_nothing_goes_unasked(ended, call):
    done = call("prune", "--older-than", "5d")

    assert (done.code, "--yes" in done.err) == (2, True)
    assert len(left(ended)) == 4


def test_the_settings_are_the_defaults_and_an_option_wins(ended, call, monkeypatch):
    monkeypatch.setenv("LOGHAUL_RETENTION_DAYS", "15")

    def ids(*options):
        return [run["id"] for run in call("prune", "--dry-run", "-o", "json", *options).json()]

    assert ids() == ["ended-40", "ended-20"]
    assert ids("--older-than", "30d") == ["ended-40"]
    monkeypatch.setenv("LOGHAUL_RETENTION_BYTES", "5")
    assert ids() == ["ended-40", "ended-20", "ended-10"]


def test_where_no_run_has_to_go_that_is_said(ended, call):
    done = call("prune", "--older-than", "300d", "-o", "json")

    assert (done.code, done.json(), "the store holds 16 B" in done.err) == (0, [], True)


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--older-than", "soon"),
        ("--older-than", "0d"),
        ("--larger-than", "much"),
        ("--larger-than", "0"),
    ],
)
def test_what_makes_no_sense_is_a_usage_error_that_says_what_would(ended, call, options):
    done = call("prune", "--yes", *options)

    assert (done.code, len(left(ended))) == (2, 4)
    assert "--older-than" in done.err or "--larger-than" in done.err


def test_a_name_with_control_characters_moves_no_cursor(shelf, call):
    shelf.stream([(b"one\n", 0)], run="a\x1b[2J")

    assert "\x1b" not in call("prune", "--older-than", "1d", "--dry-run").text
