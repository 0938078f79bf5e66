"""`loghaul.structlog_processor`: keeps what passes, changes nothing, keeps nothing twice."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
import structlog

import loghaul
from loghaul import claims, outlet


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch, tmp_path, events_of):
    """Put this process's records into a spool of the test; `kept()` is what arrived."""
    destination = outlet.Outlet(spool=tmp_path / "spool", home=tmp_path, run_id="r")
    monkeypatch.setattr(outlet, "DEFAULT", destination)
    yield lambda: events_of(tmp_path / "spool")
    destination.end("closed")
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    claims._announced.clear()


def _logger(*processors: Any, **context: Any) -> Any:
    out = structlog.testing.CapturingLogger()
    return out, structlog.wrap_logger(
        out, [*processors, lambda logger, name, event: ((), event)], **context
    )


def test_an_event_is_kept_and_the_very_same_dict_passed_on(kept) -> None:
    seen = {}
    process = loghaul.structlog_processor()
    event = {"event": "epoch %d", "positional_args": (3,), "loss": 0.5, "o": object()}
    before = dict(event)
    seen["out"] = process(None, "info", event)
    assert seen["out"] is event
    assert event == before
    (found,) = kept()
    assert (found["message"], found["log.level"], found["event.severity"]) == (
        "epoch 3",
        "info",
        20,
    )
    assert found["extra"]["loss"] == 0.5
    assert found["extra"]["o"].startswith("<object object")
    assert found["log.origin.function"] == "test_an_event_is_kept_and_the_very_same_dict_passed_on"


def test_context_is_kept_whether_bound_or_of_contextvars(kept) -> None:
    structlog.contextvars.bind_contextvars(request="r1")
    _, log = _logger(loghaul.structlog_processor(), job="train")
    log.warn("x", k=1)
    (found,) = kept()
    assert found["extra"] == {"request": "r1", "job": "train", "k": 1}
    assert found["log.level"] == "warning"


def test_the_task_that_logs_is_told(kept) -> None:
    _, log = _logger(loghaul.structlog_processor())

    async def work() -> None:
        log.info("in a task")

    async def main() -> None:
        await asyncio.create_task(work(), name="loader-0")

    asyncio.run(main())
    log.info("outside")
    assert [event.get("process.task.name") for event in kept()] == ["loader-0", None]


@pytest.mark.parametrize("formatted_before", [False, True])
def test_an_exception_is_kept_before_and_behind_its_formatting(kept, formatted_before) -> None:
    chain = [structlog.processors.format_exc_info] if formatted_before else []
    _, log = _logger(*chain, loghaul.structlog_processor())
    try:
        raise ValueError("bad value")
    except ValueError:
        log.exception("failed")
    (found,) = kept()
    assert (found["error.type"], found["error.message"]) == ("ValueError", "bad value")
    assert "Traceback" in found["error.stack_trace"]
    assert (found["log.level"], "extra" in found) == ("error", False)


def test_behind_a_renderer_its_text_is_the_message(kept) -> None:
    process = loghaul.structlog_processor()
    assert process(None, "info", "rendered") == "rendered"
    assert kept()[0]["message"] == "rendered"


def test_nothing_that_is_logged_raises_or_prints(kept, capfd) -> None:
    class Failing:
        def __str__(self) -> str:
            raise RuntimeError

        __repr__ = __str__

    numpy = pytest.importorskip("numpy")
    process = loghaul.structlog_processor()
    process(None, "info", {"event": Failing(), "a": Failing(), "n": numpy.float64(1.5), 1: 2})
    process(None, "msg", None)
    process(Failing(), "odd", {"exc_info": True, "positional_args": 3})
    assert kept()[0]["extra"]["n"] == 1.5
    assert len(kept()) == 3
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("ending", ["formatter", "kwargs", "rendered"])
def test_a_chain_that_ends_in_standard_logging_keeps_its_event_once(kept, ending) -> None:
    last: dict[str, list[Any]] = {
        "formatter": [structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        "kwargs": [structlog.stdlib.render_to_log_kwargs],
        "rendered": [structlog.processors.JSONRenderer()],
    }
    own = logging.getLogger(f"chain.{ending}")
    own.setLevel(1)
    own.propagate = False
    handler = loghaul.Handler()
    own.addHandler(handler)
    chain = [loghaul.structlog_processor(), *last[ending]]
    log = structlog.wrap_logger(own, chain, wrapper_class=structlog.stdlib.BoundLogger)
    log.info("by structlog", k=1)
    own.info("by logging")
    log.info("by structlog", k=2)
    own.removeHandler(handler)
    told = [(event["message"], event["log.logger"], event.get("extra")) for event in kept()]
    name = f"chain.{ending}"
    assert told == [
        ("by structlog", name, {"k": 1}),
        ("by logging", name, None),
        ("by structlog", name, {"k": 2}),
    ]


def test_inside_a_processor_formatter_a_foreign_record_is_kept_once(kept) -> None:
    own = logging.getLogger("foreign")
    own.setLevel(1)
    own.propagate = False
    console = logging.NullHandler()
    console.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[loghaul.structlog_processor()],
            processor=structlog.processors.KeyValueRenderer(),
        )
    )
    console.handle = console.format  # type: ignore[method-assign,assignment]
    handler = loghaul.Handler()
    own.handlers[:] = [console, handler]
    own.info("once")
    own.handlers.clear()
    assert [event["message"] for event in kept()] == ["once"]
