"""A run as its streams tell it."""

import pytest

from loghaul.chunk import End, StreamKey
from loghaul_ingest.block import Facts
from loghaul_ingest.runs import SILENT_US, attempts, summarise
from loghaul_ingest.stores.base import StreamRow


def row(writer, started, ended=None, role="process", name="stdout", detail=None, **common):
    cause = common.pop("cause", "exit")
    lines, levels = common.pop("lines", 0), common.pop("levels", {})
    common = {"role": role, **{field.replace("_", "."): value for field, value in common.items()}}
    end = None if ended is None else End(0, ended, cause, None, detail or {})
    facts = Facts(StreamKey("run", writer, name), "text", started, common, end)
    return StreamRow(facts, 0, lines, 0, levels, None, None, ())


def test_writers_whose_lives_overlap_share_an_attempt():
    rows = [row("a", 1, 10), row("b", 5, 20), row("c", 19, 30), row("d", 31, 40), row("e", 32, 33)]

    assert attempts(rows) == {"a": 1, "b": 1, "c": 1, "d": 2, "e": 2}


def test_an_open_writer_keeps_its_attempt_open():
    assert attempts([row("a", 1), row("b", 10**12)]) == {"a": 1, "b": 1}


def test_a_given_attempt_stands_and_its_children_share_it():
    rows = [
        row("s", 1, 10, "supervisor", run_attempt=3),
        row("c", 2, 9, parent="s"),
        row("g", 3, 50, parent="c"),
        row("t", 11, 20, "supervisor", run_attempt=4),
    ]

    assert attempts(rows) == {"s": 3, "c": 3, "g": 3, "t": 4}


def test_what_was_collected_neither_begins_an_attempt_nor_keeps_one_open():
    rows = [
        row("early", 1, role="collected"),
        row("a", 5, 10, "supervisor", detail={"status": "failed"}),
        row("within", 6, role="collected"),
        row("b", 20, 30, "supervisor", detail={"status": "completed"}),
        row("after", 40, role="collected"),
    ]

    assert attempts(rows) == {"early": 1, "a": 1, "within": 1, "b": 2, "after": 2}
    assert summarise(rows).status == "completed"
    assert summarise([row("a", 5, 10), row("c", 6, role="collected")]).status == "completed"
    assert attempts(rows[:1]) == {"early": 1}


def test_a_loop_of_parents_ends():
    assert attempts([row("a", 1, 2, parent="b"), row("b", 1, 2, parent="a")]) == {"a": 1, "b": 1}


def test_the_worst_of_the_nodes_decides():
    def status(*outcomes):
        rows = [row(str(n), 1, 9, "supervisor", detail=one) for n, one in enumerate(outcomes)]
        return summarise(rows).status

    assert status({"status": "completed"}, {"status": "canceled"}) == "canceled"
    assert status({"status": "canceled"}, {"status": "lost"}) == "lost"
    assert status({"status": "lost"}, {"exit_code": 1}) == "failed"
    assert status({"exit_code": 0}) == "completed"
    assert status({"exit_code": -9, "signal": "SIGKILL"}) == "failed"


def test_a_run_is_running_while_a_supervisor_is():
    rows = [row("s", 1, role="supervisor"), row("p", 2, 5, detail={"exit_code": 1})]

    found = summarise(rows, now_us=10)

    assert (found.status, found.ended) == ("running", None)


def test_a_process_that_fails_does_not_fail_the_run_of_its_supervisor():
    rows = [
        row("s", 1, 9, "supervisor", detail={"status": "completed", "exit_code": 0}),
        row("p", 2, 5, detail={"exit_code": 1}),
    ]

    assert summarise(rows).status == "completed"


def test_a_vanished_supervisor_is_a_lost_run():
    assert summarise([row("s", 1, 9, "supervisor", cause="lost")]).status == "lost"


def test_the_latest_attempt_tells_the_status():
    rows = [
        row("s", 1, 9, "supervisor", detail={"status": "failed"}),
        row("t", 20, 30, "supervisor", detail={"status": "completed"}),
    ]

    found = summarise(rows)

    assert (found.status, found.attempts, found.started, found.ended) == ("completed", 2, 1, 30)


def test_totals_tags_and_nodes_are_gathered():
    rows = [
        row("a", 2, 9, "supervisor", run_node="n1", lines=5, levels={"error": 2, "info": 1}),
        row("a", 2, 9, "supervisor", "stderr", lines=1, levels={"critical": 1}, run_node="n1"),
        row("b", 1, 9, "supervisor", run_node="n2", labels={"team": "x"}, experiment_name="e"),
    ]

    found = summarise(rows)

    assert (found.run, found.experiment, found.tags) == ("run", "e", {"team": "x"})
    assert (found.nodes, found.lines, found.errors, found.started) == (2, 6, 3, 1)


def test_a_writer_is_open_while_one_of_its_streams_is():
    rows = [row("s", 1, 9, "supervisor"), row("s", 1, None, "supervisor", "stderr")]

    assert summarise(rows, now_us=10).status == "running"


@pytest.mark.parametrize("role", ["supervisor", "collected"])
def test_a_run_that_was_silent_for_a_week_does_not_run_for_ever(role):
    rows = [row("s", 1, role=role)._replace(time_max=100)]

    def found(now_us):
        return summarise(rows, now_us)[4:7:2]

    assert found(100 + SILENT_US) == ("running", None)
    assert found(101 + SILENT_US) == ("lost", 100)
    rows[0] = rows[0]._replace(time_max=102)
    assert found(101 + SILENT_US) == ("running", None)


def test_no_streams_are_no_run():
    with pytest.raises(ValueError, match="at least one"):
        summarise([])
