"""`loghaul.JsonFormatter`: a record as one ECS JSON line, for any stream handler.

For containers whose output is collected: the line is the event that `loghaul.Handler` would keep,
with the facts of the stream in each line, because here nothing else carries them. Built on
python-json-logger (`pip install python-json-logger`): its options and its conventions for `extra`.
"""

from __future__ import annotations

import json
import logging
from typing import Any

from pythonjsonlogger.core import BaseJsonFormatter

from loghaul import event
from loghaul.plain import plain

ECS_VERSION = "9.0.0"
_FIRST = ("@timestamp", "log.level", "message")


class JsonFormatter(BaseJsonFormatter):
    """Takes what python-json-logger's formatters take, and `facts`: more constant fields.

    `static_fields`, `defaults` and fields named by `fmt` stand under `extra`, as `extra=` does;
    `rename_fields` renames there.
    """

    makes_events = True

    def __init__(self, *args: Any, facts: Any = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self._facts: dict[str, Any] = {"ecs.version": ECS_VERSION, **_known(), **(facts or {})}

    def add_fields(
        self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]
    ) -> None:
        """Fill in the event, extras by python-json-logger's own rules."""
        extra: dict[str, Any] = {}
        super().add_fields(extra, record, {})
        for name in event.RESERVED & extra.keys():
            # Named by `fmt`, but part of the event already.
            del extra[name]
        found = event.fields(record, extra=plain(extra))
        log_data.update({name: found.pop(name) for name in _FIRST})
        log_data.update(self._facts)
        log_data.setdefault("process.pid", record.process)
        log_data.update(found)

    def jsonify_log_record(self, log_data: dict[str, Any]) -> str:
        """Return the line, without newline; lone surrogates as visible text."""
        text = json.dumps(plain(log_data), ensure_ascii=False, separators=(",", ":"))
        return event.whole(text)


def _known() -> dict[str, Any]:
    """Return the facts of this process that are known without making up a run."""
    from loghaul.config import load
    from loghaul.outlet import facts

    settings = load(strict=False)
    found = facts(settings)
    for name in ("role", "parent", "started", "process.pid", "process.name"):
        found.pop(name, None)
    if not settings.run_id:
        del found["run.id"]
    return found
