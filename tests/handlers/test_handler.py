"""`loghaul.Handler`: what of a record is kept, and that the script never notices."""

from __future__ import annotations

import io
import json
import logging
import logging.config
import logging.handlers
import os
import queue
import sys
import threading
from pathlib import Path
from typing import Any

import orjson
import pytest
from pythonjsonlogger.json import JsonFormatter as TheirFormatter

import loghaul
from loghaul import health


@pytest.fixture
def haul(tmp_path: Path, events_of):
    """A logger with one of our handlers; `.events()` is what arrived."""

    class Haul:
        spool = tmp_path / "spool"
        handler = loghaul.Handler(spool=spool, home=tmp_path, run="r")
        log = logging.Logger("unit.test", 1)
        log.addHandler(handler)

        def events(self) -> list[dict[str, Any]]:
            return events_of(self.spool)

        def only(self) -> dict[str, Any]:
            (event,) = self.events()
            return event

    haul = Haul()
    yield haul
    haul.handler._outlet.end("closed")


def test_a_record_is_one_line_of_json_in_a_fixed_order(haul, writers_of) -> None:
    for step in (1, 2):
        haul.log.debug("step %d of %s", step, "zwölf")
    (writer,) = writers_of(haul.spool)
    first, second = (orjson.loads(line) for line in writer["data"].splitlines())
    expected = ["@timestamp", "log.level", "message", "log.logger", "event.severity"]
    expected += ["process.thread.name", "log.origin.file.name", "log.origin.file.line"]
    expected += ["log.origin.function"]
    assert list(first) == list(second) == expected
    assert first["message"] == "step 1 of zwölf"
    assert second["message"] == "step 2 of zwölf"
    assert (first["log.level"], first["event.severity"]) == ("debug", 10)
    assert first["log.logger"] == "unit.test"
    assert first["log.origin.file.name"] == __file__
    assert writer["facts"]["run.id"] == "r"
    assert writer["facts"]["process.pid"] == os.getpid()


def test_the_time_is_the_records_own_in_microseconds_also_across_a_second(haul) -> None:
    for created in (1_700_000_000.000001, 1_700_000_000.999999, 1_700_000_001.0, 5.25):
        record = logging.makeLogRecord({"msg": "x", "created": created, "name": "n"})
        haul.handler.handle(record)
        haul.handler.handle(record)
    stamps = [event["@timestamp"] for event in haul.events()]
    assert stamps[2::2] == [
        "2023-11-14T22:13:20.000001Z",
        "2023-11-14T22:13:20.999999Z",
        "2023-11-14T22:13:21.000000Z",
    ]
    assert stamps[0] == "1970-01-01T00:00:05.250000Z"


def test_making_a_handler_creates_nothing_and_starts_nothing(tmp_path: Path) -> None:
    before = threading.active_count()
    loghaul.Handler(spool=tmp_path / "spool", home=tmp_path / "home")
    assert (list(tmp_path.iterdir()), threading.active_count()) == ([], before)


def test_an_exception_keeps_type_message_and_the_whole_chain(haul) -> None:
    try:
        try:
            {}["cause"]
        except KeyError as error:
            raise ValueError("the effect") from error
    except ValueError:
        haul.log.exception("failed")
    event = haul.only()
    assert event["error.type"] == "ValueError"
    assert event["error.message"] == "the effect"
    assert "KeyError: 'cause'" in event["error.stack_trace"]
    assert "direct cause" in event["error.stack_trace"]
    assert list(event)[4:7] == ["error.type", "error.message", "error.stack_trace"]


def test_stack_info_is_kept(haul) -> None:
    haul.log.info("here", stack_info=True)
    assert "test_stack_info_is_kept" in haul.only()["error.stack_trace"]


def test_extra_stands_under_extra_and_private_names_are_left_out(haul) -> None:
    haul.log.info("x", extra={"loss": 0.5, "_private": 1, "nested": {"a": [1, None, True]}})
    assert haul.only()["extra"] == {"loss": 0.5, "nested": {"a": [1, None, True]}}


def test_a_dict_as_message_gives_its_fields_and_is_not_changed(haul) -> None:
    message = {"event": "epoch", "epoch": 3}
    haul.log.info(message)
    event = haul.only()
    assert (event["extra"], event["message"]) == (message, str(message))
    assert message == {"event": "epoch", "epoch": 3}


def test_what_another_formatter_left_on_the_record_is_no_extra(haul) -> None:
    console = logging.StreamHandler(io.StringIO())
    console.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    haul.log.handlers.insert(0, console)
    for _ in range(2):
        haul.log.info("x")
    assert all("extra" not in event for event in haul.events())


def test_a_coloured_level_name_of_another_formatter_does_not_reach_the_event(haul) -> None:
    class Colours(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            record.levelname = f"\x1b[31m{record.levelname}\x1b[0m"
            return super().format(record)

    console = logging.StreamHandler(io.StringIO())
    console.setFormatter(Colours())
    haul.log.handlers.insert(0, console)
    haul.log.error("x")
    assert haul.only()["log.level"] == "error"


def test_the_thread_that_logs_is_told(haul) -> None:
    thread = threading.Thread(target=lambda: haul.log.info("x"), name="loader-0")
    thread.start()
    thread.join()
    event = haul.only()
    assert (event["process.thread.name"], event["process.thread.id"]) == ("loader-0", thread.ident)


def test_a_record_of_another_process_keeps_its_pid(haul) -> None:
    haul.handler.handle(logging.makeLogRecord({"msg": "x", "process": 1, "processName": "W-1"}))
    event = haul.only()
    assert (event["process.pid"], event["process.name"]) == (1, "W-1")


def test_a_level_of_ones_own_is_known_by_its_name(haul) -> None:
    logging.addLevelName(15, "CHATTY")
    haul.log.log(15, "x")
    assert (haul.only()["log.level"], haul.only()["event.severity"]) == ("chatty", 15)


class Failing:
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


def _circular() -> list[Any]:
    ring: list[Any] = []
    ring += [ring, ring]
    return ring


def _deep() -> Any:
    value: Any = 1
    for _ in range(5000):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [
        Failing(), _circular(), _deep(), object(), b"\xff\x00", float("nan"), float("inf"),
        10**400, {1: {(1, 2): {3}}}, "\ud800", "\x00\x1b\u2028", {"a": Failing()}, threading.Lock(),
        ValueError("v"), int, Path("/x"), sys,
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_any_object_is_survived_as_extra_argument_and_message(
    haul, writers_of, value: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    haul.log.info("extra", extra={"value": value})
    haul.log.info("argument %s", value)
    haul.log.info(value)
    haul.log.info("behind")
    (writer,) = writers_of(haul.spool)
    events = [orjson.loads(line) for line in writer["data"].splitlines()]
    assert [len(events), events[-1]["message"]] == [4, "behind"]
    assert capfd.readouterr() == ("", "")


def test_numbers_of_numpy_are_numbers_and_large_arrays_are_text(haul) -> None:
    numpy = pytest.importorskip("numpy")
    haul.log.info(
        "x", extra={"a": numpy.float32(0.5), "b": numpy.arange(3), "c": numpy.zeros(9**6)}
    )
    extra = haul.only()["extra"]
    assert (extra["a"], extra["b"]) == (0.5, [0, 1, 2])
    assert isinstance(extra["c"], str)


def test_ten_megabytes_of_message_arrive_whole(haul) -> None:
    haul.log.info("é" * 5_000_000)
    haul.log.info("behind")
    assert [len(event["message"]) for event in haul.events()] == [5_000_000, 6]


@pytest.mark.parametrize("args", [("x",), (1, 2), (), ({"b": 1},)])
def test_arguments_that_do_not_fit_are_kept_and_nothing_is_printed(
    haul, args: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    haul.log.warning("%d of %(a)s", *args)
    event = haul.only()
    assert event["message"] == "%d of %(a)s"
    assert event.get("extra", {}).get("args", []) == (
        args[0] if args and isinstance(args[0], dict) else list(args)
    )
    assert capfd.readouterr() == ("", "")


def test_an_argument_that_logs_about_itself_ends(haul) -> None:
    class Chatty:
        def __str__(self) -> str:
            haul.log.debug("text of %s and %s", self, self)
            return "chatty"

    haul.log.info("%s", Chatty())
    messages = [event["message"] for event in haul.events()]
    assert messages.count("chatty") == 1
    assert 1 < len(messages) < 20


def test_a_formatter_of_python_json_logger_contributes_its_fields(haul) -> None:
    haul.handler.setFormatter(
        TheirFormatter("%(levelname)s %(message)s", static_fields={"team": "vision"})
    )
    haul.log.info("step %d", 1, extra={"loss": 2})
    event = haul.only()
    assert event["message"] == "step 1"
    assert event["extra"] == {"levelname": "INFO", "team": "vision", "loss": 2}


def test_the_text_of_any_other_formatter_is_the_message(haul) -> None:
    haul.handler.setFormatter(logging.Formatter("[%(levelname)s] %(message)s"))
    haul.log.info("x")
    assert haul.only()["message"] == "[INFO] x"


def test_a_formatter_that_fails_costs_nothing_but_itself(
    haul, capfd: pytest.CaptureFixture[str]
) -> None:
    haul.handler.setFormatter(logging.Formatter("%(missing)s"))
    haul.log.info("x")
    assert haul.only()["message"] == "x"
    assert capfd.readouterr() == ("", "")


def test_filters_and_levels_work_as_in_every_handler(haul) -> None:
    haul.handler.setLevel("WARNING")
    haul.log.info("too low")
    haul.handler.addFilter(lambda record: "secret" not in record.getMessage())
    haul.log.error("secret")
    haul.log.error("seen")
    assert [event["message"] for event in haul.events()] == ["seen"]


def test_a_subclass_that_overrides_emit_is_asked(tmp_path: Path, events_of) -> None:
    class Upper(loghaul.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            record.msg = record.msg.upper()
            super().emit(record)

    handler = Upper(spool=tmp_path / "spool", home=tmp_path)
    handler.handle(logging.makeLogRecord({"msg": "x"}))
    handler._outlet.end("closed")
    assert [event["message"] for event in events_of(tmp_path / "spool")] == ["X"]


def test_two_handlers_on_the_way_keep_a_record_once(haul) -> None:
    second = loghaul.Handler(spool=haul.spool)
    haul.log.addHandler(second)
    haul.log.info("x")
    second._outlet.end("closed")
    assert len(haul.events()) == 1


def test_dict_config_takes_the_class_by_name_with_scalars(tmp_path: Path, events_of) -> None:
    spool = tmp_path / "spool"
    handler = {"class": "loghaul.Handler", "level": "INFO", "run": "d", "spool": str(spool)}
    logging.config.dictConfig({
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {"haul": handler},
        "loggers": {"by.dict": {"handlers": ["haul"], "level": "DEBUG"}},
    })  # fmt: skip
    logger = logging.getLogger("by.dict")
    logger.debug("low")
    logger.info("high")
    (made,) = logger.handlers
    assert [event["message"] for event in events_of(spool)] == ["high"]
    logger.removeHandler(made)
    made._outlet.end("closed")


def test_file_config_takes_it_too(tmp_path: Path) -> None:
    parser = io.StringIO(
        "[loggers]\nkeys=root,f\n[handlers]\nkeys=haul\n[formatters]\nkeys=\n"
        "[logger_root]\nhandlers=\n[logger_f]\nqualname=by.file\nhandlers=haul\n"
        "[handler_haul]\nclass=loghaul.Handler\nargs=('DEBUG',)\n"
    )
    root = logging.getLogger()
    before = (root.level, list(root.handlers))
    try:
        logging.config.fileConfig(parser, disable_existing_loggers=False)
        (made,) = logging.getLogger("by.file").handlers
        assert (type(made).__name__, made.level) == ("Handler", logging.DEBUG)
    finally:
        logging.getLogger("by.file").handlers.clear()
        root.setLevel(before[0])
        root.handlers[:] = before[1]


def test_behind_a_queue_nothing_is_lost(haul) -> None:
    line: queue.Queue[Any] = queue.Queue()
    log = logging.Logger("queued", 1)
    log.addHandler(logging.handlers.QueueHandler(line))
    listener = logging.handlers.QueueListener(line, haul.handler)
    listener.start()
    try:
        1 / 0  # noqa: B018
    except ZeroDivisionError:
        log.exception("x %d", 1)
    listener.stop()
    # Python's QueueHandler makes the exception part of the message.
    message = haul.only()["message"]
    assert message.startswith("x 1\nTraceback")
    assert message.endswith("ZeroDivisionError: division by zero")


def test_a_forks_child_is_a_writer_of_its_own(haul, writers_of) -> None:
    haul.log.info("parent")
    pid = os.fork()
    if pid == 0:
        haul.log.info("child")
        os._exit(0)
    os.waitpid(pid, 0)
    haul.log.info("parent again")
    told = {w["facts"]["process.pid"]: [e["message"] for e in w["events"]]
            for w in writers_of(haul.spool)}  # fmt: skip
    assert told == {os.getpid(): ["parent", "parent again"], pid: ["child"]}


def test_a_spool_that_cannot_be_made_is_counted_and_nothing_else(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    handler = loghaul.Handler(spool=tmp_path / "file" / "spool", home=tmp_path)
    before = health.counters.get("record lost without a spool", 0)
    for _ in range(3):
        handler.handle(logging.makeLogRecord({"msg": "x"}))
    assert health.counters["record lost without a spool"] == before + 3
    assert capfd.readouterr() == ("", "")


def test_an_unknown_setting_is_noted_in_our_own_log(tmp_path: Path) -> None:
    handler = loghaul.Handler(spool=tmp_path / "spool", home=tmp_path, experimnt="x")
    health._written.clear()
    handler.handle(logging.makeLogRecord({"msg": "x"}))
    handler._outlet.end("closed")
    assert "did you mean 'experiment'" in (tmp_path / "client.log").read_text()


def test_the_json_formatter_gives_the_same_event_with_the_facts_of_the_stream(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LOGHAUL_RUN_ID", "r7")
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(loghaul.JsonFormatter(static_fields={"team": "a"}))
    log = logging.Logger("json", 1)
    log.addHandler(handler)
    try:
        raise ValueError("v\ud800")
    except ValueError:
        log.exception("failed %s", "ü", extra={"k": {1}})
    (line,) = out.getvalue().splitlines()
    event = orjson.loads(line)
    assert list(event)[:4] == ["@timestamp", "log.level", "message", "ecs.version"]
    assert (event["run.id"], event["message"], event["log.level"]) == ("r7", "failed ü", "error")
    assert event["error.type"] == "ValueError"
    assert event["extra"] == {"team": "a", "k": [1]}
    assert json.loads(line)["log.logger"] == "json"
