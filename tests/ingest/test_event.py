"""Events: the flat ECS form, and the line that people see."""

from __future__ import annotations

import json
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from loghaul.chunk import EVENTS, TEXT, Mark, StreamKey
from loghaul_ingest.block import Facts
from loghaul_ingest.event import event, render
from loghaul_ingest.seal import seal
from loghaul_ingest.times import micros, rfc3339
from loghaul_ingest.view import View

COMMON = {
    "run.id": "exp_1_ab",
    "run.name": "n",
    "run.attempt": 1,
    "run.node": "node-1",
    "run.rank": 3,
    "run.local_rank": 0,
    "experiment.name": "exp",
    "host.name": "h",
    "process.pid": 7,
    "process.name": "python",
    "labels": {"team": "vision"},
    "log.file.path": "azureml-logs/70_driver_log.txt",
    "log.iostream": "stdout",
    "role": "process",
    "started": 1,
}
KEY = StreamKey("exp_1_ab", "f" * 32, "stdout")
RECORD = (
    b'{"@timestamp":"2026-11-23T22:26:47.123456Z","log.level":"debug","message":"hi",'
    b'"log.logger":"azure.core","error.type":"E","error.message":"m",'
    b'"error.stack_trace":"Traceback\\n  x\\nE: m\\n","extra":{"a":{"b":1}},"event.severity":10,'
    b'"process.thread.name":"MainThread","process.name":"worker","log.origin.file.line":12}\n'
)


def events(data: bytes, kind: str = TEXT, attempt: int | None = None) -> list[dict[str, Any]]:
    facts = Facts(KEY, kind, 1, COMMON)
    marks = (Mark(len(data), 1_795_472_807_000_001),)
    block = seal(facts, 10, data, marks, ended=True)
    view = View(facts, block.head, data, block.marks)
    return [event(view, span, attempt) for span in view.spans()]


def test_a_line_of_text_is_joined_with_the_facts_of_its_stream() -> None:
    assert events(b"first\nWARNING:root:careful\n")[1] == {
        "@timestamp": "2026-11-23T22:26:47.000001Z",
        "log.level": "warning",
        "message": "WARNING:root:careful",
        "log.logger": "root",
        "event.severity": 30,
        "run.id": "exp_1_ab",
        "run.name": "n",
        "run.attempt": 1,
        "run.node": "node-1",
        "run.rank": 3,
        "run.local_rank": 0,
        "experiment.name": "exp",
        "host.name": "h",
        "process.pid": 7,
        "process.name": "python",
        "labels.team": "vision",
        "log.file.path": "azureml-logs/70_driver_log.txt",
        "log.iostream": "stdout",
        "log.offset": 16,
        "event.id": f"exp_1_ab/{'f' * 32}/stdout@16",
        "event.kind": "text",
    }


def test_a_record_keeps_everything_of_itself() -> None:
    (found,) = events(RECORD, EVENTS, attempt=2)
    assert found["@timestamp"] == "2026-11-23T22:26:47.123456Z"
    assert (found["log.level"], found["event.severity"], found["message"]) == ("debug", 10, "hi")
    assert (found["log.logger"], found["error.type"]) == ("azure.core", "E")
    assert (found["extra.a.b"], found["process.name"], found["run.attempt"]) == (1, "worker", 2)
    assert (found["event.kind"], found["process.thread.name"]) == ("events", "MainThread")


def test_a_record_is_shown_in_one_line_and_its_stack_trace_behind_it() -> None:
    (found,) = events(RECORD, EVENTS)
    expected = "2026-11-23 22:26:47,123|azure.core|DEBUG|hi\nTraceback\n  x\nE: m"
    assert expected == render(found)


def test_text_is_shown_as_it_is() -> None:
    data = b'WARNING:root:x\n{"level":"info","msg":"m"}\n'
    found = [render(one) for one in events(data)]
    assert data.decode().splitlines() == found


def test_states_of_a_progress_bar_are_marked() -> None:
    found = events(b"\r 10%\r 20%\r\n 30%\n")
    assert [one.get("log.progress") for one in found] == [True, True, None, None]
    assert [one["message"] for one in found] == ["", " 10%", " 20%", " 30%"]


def test_a_message_has_no_colours() -> None:
    (found,) = events(b"\x1b[31mERROR\x1b[0m: red\n")
    assert (found["message"], found["log.level"]) == ("ERROR: red", "error")


def test_a_line_cannot_speak_for_its_stream() -> None:
    line = (
        b'{"message":"m","level":"info","run.id":"x","host.name":"y","log.offset":9,"event.id":1}'
    )
    (found,) = events(line + b"\n")
    assert (found["run.id"], found["host.name"], found["log.offset"]) == ("exp_1_ab", "h", 10)
    assert (found["extra.run.id"], found["extra.event.id"]) == ("x", 1)
    assert found["event.original"] == line.decode()
    (own,) = events(line + b"\n", EVENTS)
    assert (own["run.id"], own["log.offset"], own["extra.run.id"]) == ("exp_1_ab", 10, "x")


hostile = st.lists(
    st.one_of(
        st.binary(max_size=6),
        st.sampled_from([b"\n", b"\r", b"\0", b'{"a":', b'{"message":"\\ud800"}\n', b"\xff"]),
        st.sampled_from([b'{"v":1e999,"w":NaN}\n', b'{"' + b"\xff" + b'":"\xff","level":"x"}\n']),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=4),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.sampled_from(["level", "message", "extra", "a.b", "x"]), inner)
            ),
            max_leaves=6,
        ).map(lambda value: json.dumps(value).encode() + b"\n"),
    ),
    max_size=10,
).map(b"".join)


@settings(max_examples=150, deadline=None)
@given(hostile, st.sampled_from([TEXT, EVENTS]))
def test_any_bytes_become_json(data: bytes, kind: str) -> None:
    for found in events(data, kind):
        assert isinstance(found["message"], str)
        assert None not in (found["@timestamp"], found["event.id"])
        orjson.dumps(found)
        json.dumps(found, allow_nan=False).encode()
        render(found).encode()


def test_times_go_both_ways() -> None:
    for time_us in (0, 1, 1_795_472_807_123_456, -1, -62_000_000_000_000_000):
        assert micros(rfc3339(time_us)) == time_us
    assert micros("2026-11-23T23:26:47.5+01:00") == micros("2026-11-23T22:26:47.500000Z")
    assert [micros(bad) for bad in ("", None, "2026-02-31T00:00:00Z", "2026-11-23T00:00:00")] == [
        None
    ] * 4
    assert rfc3339(10**30) == "9999-12-31T23:59:59.999999Z"
    assert rfc3339(-(10**30)) == "0001-01-01T00:00:00.000000Z"
