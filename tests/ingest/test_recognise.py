"""What lines say about themselves."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loghaul.chunk import BLOB, EVENTS, TEXT
from loghaul_ingest import levels, lines
from loghaul_ingest.recognise import fields_of, level_lines

SAYS = r"""
info        2026-01-01 10:00:00,123 - name - INFO - msg
info        [INFO] msg
info        INFO - msg
info        INFO
error       ERROR something bad
info        2026-01-01 10:00:00.123 | INFO     | __main__:main:12 - msg
info        I0102 12:34:56.789012 1234 file.py:12] msg
warning     W0102 12:34:56.789012 1234 file.py:12] msg
critical    F20260102 12:34:56.789012 1234 file.cc:12] msg
info        host:12:34 [0] NCCL INFO Bootstrap : Using eth0
warning     [2026-01-01 10:00:00] host:12:34 [0] misc/socket.cc:50 NCCL WARN failed
info        26/01/02 10:00:00 INFO Class: msg
info        2026-01-02 10:00:00,123 INFO [main] org.apache.Foo: msg
info        2026-01-01T00:00:00Z [info     ] msg  [logger] a=b
warning     2026-01-01 10:00:00 [warning  ] msg
info        time="2026-01-01T00:00:00Z" level=info msg="foo bar"
error       level=error msg=x
warning     ts=1 caller=foo.go:12 level=warn msg=x
error       Traceback (most recent call last):
error       [rank0]: Traceback (most recent call last):
error         + Exception Group Traceback (most recent call last):
error       [rank0]:[E1023 12:34:56.789 ProcessGroupNCCL.cpp:616] msg
warning     [W socket.cpp:663] [c10d] msg
warning     [W1102 10:00:00.123 socket.cpp:663] msg
info        2026-01-01 10:00:00.123456: I tensorflow/core/foo.cc:42] msg
info        [I 2026-01-01 10:00:00,123] Trial 0 finished
info        [I 10:00:00.123 NotebookApp] msg
info        [2026-01-01 10:00:00 +0000] [123] [INFO] Starting gunicorn
info        [2026-01-01 10:00:00,123] [INFO] [launch.py:12:main] msg
info        [2026-01-01 10:00:00,123][__main__][INFO] - msg
info        [INFO|trainer.py:123] 2026-01-01 10:00:00,123 >> msg
info        INFO:     127.0.0.1 - "GET / HTTP/1.1" 200 OK
info        INFO 01-02 10:00:00 [llm_engine.py:1] msg
info        (EngineCore_0 pid=12) INFO 01-02 10:00:00 msg
info        2026-01-01 10:00:00,123	INFO worker.py:1 -- msg
info        [10:00:00] INFO     msg                   file.py:12
warning                WARNING  msg                   file.py:12
info        2026-01-01T10:00:00.123Z  INFO 123 --- [main] c.e.App : msg
info        [2026-01-01 10:00:00,123: INFO/MainProcess] msg
info        2026-01-01 10:00:00.123 1234 INFO nova.compute [req] msg
info        2026-01-01T10:00:00.000Z	info	caller	msg
error       Jan  2 10:00:00 ERROR msg
error       2026/01/02 10:00:00 [error] 123#0: msg
error       2026-01-01 00:00:00 [ERROR] {file.py:12} msg
error       [2026-01-01, 10:00:00 UTC] {taskinstance.py:1} ERROR - msg
error       error: pathspec 'x' did not match
error       Error: Cannot find module 'x'
critical    fatal: not a git repository
info        {"levelname": "INFO", "message": "x"}
warning     {"log":{"level":"WARN"},"message":"x"}
info        {"level":30,"time":1,"msg":"x"}
error       {"severity":"ERROR","message":"x"}
error       {"level": 3, "short_message": "x"}
warning     {"severityNumber": 13, "body": "x"}
""".strip("\n").split("\n")

SAYS_NOTHING = """
error rate: 0.1
no errors
there is an ERROR in the middle of prose, and INFO too
Epoch 3 info: error 0.5
error: 0.123
Error: nan
MeanSquaredError: 0.1
RootMeanSquaredError: 12
val_loss 0.3 ERROR
2026-01-01 10:00:00 got an ERROR from server
10:00 there was an error: x
{'loss': 0.5, 'level': 'info'}
{"loss": 0.5}
{"level": "beginner", "name": "x"}
{"level": [1], "msg": {"a": 1}}
information about the run
Warnings were 3
INFORMATION
INFOS and DEBUGGING
warning
info
(info) msg
    raise ValueError("x")
debugging = True
https://host/INFO
[0] msg
[error_rate] 0.1
loss=0.1 level=3
12:30:00 | loss | 3 | ERRORS
Test set: Average loss: 0.05, Accuracy: 9800/10000 (98%)
 10%|#  | 1/10 [00:01<00:10]
the level=info setting
ErrorRate: 3
""".strip("\n").split("\n")

LOGGERS = {
    "WARNING:root:msg": "root",
    "CRITICAL:foo.bar:down": "foo.bar",
    "2026-01-01 10:00:00,123 - my.name - INFO - msg": "my.name",
    "01/02/2026 10:00:00 - INFO - __main__ - msg": "__main__",
    "2026-11-23 22:26:47,123|azure.core|DEBUG|message": "azure.core",
}
ERRORS = {
    "ValueError: x": "ValueError",
    "KeyboardInterrupt": "KeyboardInterrupt",
    "AssertionError": "AssertionError",
    "Exception: boom": "Exception",
    "torch.cuda.OutOfMemoryError: CUDA out of memory.": "torch.cuda.OutOfMemoryError",
    "requests.exceptions.ReadTimeout: x": "requests.exceptions.ReadTimeout",
    "[rank3]: RuntimeError: NCCL error": "RuntimeError",
    "/a/b.py:12: UserWarning: careful": "UserWarning",
}

OWN = (
    '{"@timestamp":"2026-11-23T22:26:47.123456Z","log.level":"%s","message":"%s",'
    '"log.logger":"azure.core"%s,"event.severity":%d,"process.thread.name":"MainThread"}'
)
RECORDS = [
    (OWN % ("info", "a", "", 20)),
    (OWN % ("error", 'quote \\" and \\\\', ',"error.type":"ValueError","error.message":"x"', 40)),
    (OWN % ("audit", "custom", ',"extra":{"a":{},"event.severity":50}', 35)),
    (OWN % ("info", '\\",\\"log.level\\":\\"error', ',"extra":{"log.level":"error"}', 20)),
    (OWN % ("info", "a", ',"extra":{"x":"},\\"event.severity\\":50"}', 20)),
    '{"message":"log.level","log.level":"WARN"}',
    '{"log.level":"info","message":"no time"}',
    "not json",
    '{"torn":',
    "",
    "[1,2]",
    (OWN % ("info", "torn", "", 20))[:-20],
]

texts = [row[12:] for row in SAYS] + SAYS_NOTHING + list(LOGGERS) + list(ERRORS)
terminators = st.sampled_from([b"\n", b"\r", b"\r\n"])
text_lines = st.tuples(
    st.one_of(
        st.sampled_from(texts).map(str.encode),
        st.sampled_from(texts).map(lambda text: b"\x1b[32m" + text.encode() + b"\x1b[0m"),
        st.binary(max_size=20).map(lambda data: data.replace(b"\n", b"").replace(b"\r", b"")),
        st.tuples(st.sampled_from(texts), st.integers(0, 60)).map(lambda t: t[0].encode()[: t[1]]),
    ),
    terminators,
).map(b"".join)


@pytest.mark.parametrize("row", SAYS)
def test_a_layout_says_its_level(row: str) -> None:
    expected, line = row[:12].strip(), row[12:]
    assert expected == fields_of(line.encode(), TEXT).get("log.level")


@pytest.mark.parametrize("line", SAYS_NOTHING)
def test_prose_and_metrics_have_no_level(line: str) -> None:
    assert "log.level" not in fields_of(line.encode(), TEXT)


@pytest.mark.parametrize("line", LOGGERS)
def test_a_layout_says_its_logger(line: str) -> None:
    assert LOGGERS[line] == fields_of(line.encode(), TEXT).get("log.logger")


@pytest.mark.parametrize("line", ERRORS)
def test_the_last_line_of_a_traceback_says_its_error(line: str) -> None:
    fields = fields_of(line.encode(), TEXT)
    expected = "warning" if "Warning" in line else "error"
    assert (ERRORS[line], expected) == (fields.get("error.type"), fields.get("log.level"))


def test_colours_do_not_hide_a_level() -> None:
    line = b"\x1b[2m2026-01-01T00:00:00Z\x1b[0m [\x1b[32m\x1b[1minfo     \x1b[0m] \x1b[1mmsg\x1b[0m"
    assert fields_of(line, TEXT)["log.level"] == "info"
    assert fields_of(b"\x1b[32mINFO\x1b[0m:     Started", TEXT)["log.level"] == "info"


def agree(data: bytes, kind: str) -> None:
    found = {(start, end): level for start, end, level in level_lines(data, kind)}
    spans = lines.spans(data, kind, more=False)
    if (last := lines.last_end(data, kind, more=False)) < len(data):
        spans.append((last, len(data)))
    expected = {
        span: fields["log.level"]
        for span in spans
        if "log.level" in (fields := fields_of(data[slice(*span)], kind))
    }
    assert expected == found


@settings(max_examples=150, deadline=None)
@given(st.lists(text_lines, max_size=12), st.integers(0, 3))
def test_a_block_of_text_says_what_its_lines_say(rows: list[bytes], cut: int) -> None:
    data = b"".join(rows)
    agree(data[: len(data) - cut], TEXT)


@settings(max_examples=120, deadline=None)
@given(st.lists(st.sampled_from(RECORDS), max_size=8), st.integers(0, 3))
def test_a_block_of_records_says_what_its_records_say(rows: list[str], cut: int) -> None:
    data = b"".join(row.encode() + b"\n" for row in rows)
    agree(data[: len(data) - cut], EVENTS)


@pytest.mark.parametrize(
    ("record", "expected"),
    list(zip(RECORDS, ["info", "error", "audit", "info", "info", "warning", "info"], strict=False)),
)
def test_the_level_of_a_record_is_its_own_and_not_one_quoted_in_it(
    record: str, expected: str
) -> None:
    assert expected == fields_of(record.encode(), EVENTS)["log.level"]


def test_a_record_is_taken_apart_into_flat_fields() -> None:
    record = OWN % ("info", "a\\tb", ',"extra":{"epoch":3,"opt":{"lr":0.1},"tags":["x"]}', 20)
    assert fields_of(record.encode() + b"\n", EVENTS) == {
        "@timestamp": "2026-11-23T22:26:47.123456Z",
        "message": "a\tb",
        "log.logger": "azure.core",
        "extra.epoch": 3,
        "extra.opt.lr": 0.1,
        "extra.tags": ["x"],
        "event.severity": 20,
        "process.thread.name": "MainThread",
        "log.level": "info",
    }


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            '{"levelname":"ERROR","name":"app","message":"m","lineno":3,"epoch":1,'
            '"exc_info":"Traceback\\n  File\\nValueError: bad","asctime":"2026"}',
            {
                "message": "m",
                "log.logger": "app",
                "log.origin.file.line": 3,
                "extra.epoch": 1,
                "error.stack_trace": "Traceback\n  File\nValueError: bad",
                "error.type": "ValueError",
                "error.message": "bad",
                "event.created": "2026",
                "log.level": "error",
            },
        ),
        (
            '{"event":"m","level":"info","timestamp":"2026","logger":"app"}',
            {
                "message": "m",
                "log.level": "info",
                "event.created": "2026",
                "log.logger": "app",
            },
        ),
        (
            '{"@timestamp":"t","log":{"level":"warn","logger":"a"},"message":"m","run.id":"other"}',
            {
                "message": "m",
                "log.level": "warning",
                "event.created": "t",
                "log.logger": "a",
                "extra.run.id": "other",
            },
        ),
        (
            '{"name":"app","hostname":"h","pid":1,"level":50,"msg":"m","v":0}',
            {
                "message": "m",
                "log.level": "error",
                "log.logger": "app",
                "extra.hostname": "h",
                "extra.pid": 1,
                "extra.v": 0,
            },
        ),
        ('{"loss":0.5,"name":"x"}', {"extra.loss": 0.5, "extra.name": "x"}),
        ('{"a":{},"b":null,"extra":{"c":1}}', {"extra.a": {}, "extra.b": None, "extra.c": 1}),
    ],
)
def test_json_lines_of_other_loggers_are_taken_apart(line: str, expected: dict[str, Any]) -> None:
    assert expected == fields_of(line.encode(), TEXT)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"1e999", "1e999"),
        (b"NaN", "NaN"),
        (b"-Infinity", "-Infinity"),
        (b"12345678901234567890123", "12345678901234567890123"),
        (b"9" * 5000, "9" * 5000),
        (b"18446744073709551615", "18446744073709551615"),
        (b"9007199254740993", 9007199254740993),
        (b'"\\ud800x"', "\\ud800x"),
        (b'"\xff"', "\\xff"),
        (b'["\\ud800"]', '["\\ud800"]'),
    ],
)
def test_values_that_json_or_utf8_cannot_hold_stay_as_they_were_written(
    value: bytes, expected: Any
) -> None:
    found = fields_of(b'{"message":"m","v":' + value + b"}", TEXT)["extra.v"]
    assert expected == (int(found) if isinstance(expected, int) else str(found))
    json.dumps(found, allow_nan=False).encode()


@pytest.mark.parametrize(
    "line",
    [
        b'{"a":' * 200_000 + b"1" + b"}" * 200_000,
        b'{"a":' * 900 + b"1" + b"}" * 900,
        b"[" * 500_000,
        b'{"' * 300_000,
        b"a" * 1_000_000,
        b"a.b" * 300_000,
        b"2026-01-01 10:00:00 " + b"[" * 500_000,
        b"10:00 - " * 100_000,
        b"k=v " * 200_000,
        b"1:" * 400_000,
        b"| + " * 200_000,
        b"\0" * 1_000_000,
        b"\x1b[" * 300_000,
        b"[INFO" * 100_000,
        b'{"levelname":"INFO","message":"' + b"x" * 2_000_000 + b'"}',
    ],
    ids=lambda line: repr(line[:12]),
)
@pytest.mark.parametrize("kind", [TEXT, EVENTS])
def test_enormous_and_hostile_lines_take_time_in_proportion(line: bytes, kind: str) -> None:
    start = time.process_time()
    fields_of(line, kind)
    level_lines(line + b"\n" + line, kind)
    assert time.process_time() - start < 5


def test_a_blob_says_nothing() -> None:
    assert fields_of(b"ERROR: x", BLOB) == {}
    assert level_lines(b"ERROR: x\n", BLOB) == []


def test_names_of_levels_are_python_s() -> None:
    assert [levels.canonical(name) for name in ("WARN", "Fatal", " INFO ", "E", "AUDIT")] == [
        "warning",
        "critical",
        "info",
        "error",
        "audit",
    ]
    assert (levels.severity("audit", 35), levels.severity("error", 1)) == (35, 40)
    assert (levels.severity(None), levels.severity("audit")) == (0, 0)
