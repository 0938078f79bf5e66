"""`loghaul.Handler`: a standard `logging.Handler` whose records become events of a run.

Making one neither connects, spawns nor creates anything; the spool is opened by the first record.
Nothing raises into the script, prints, or blocks. Level and filters work as in every handler.
A formatter is honoured: one of python-json-logger's contributes its fields, any other its text as
the message. A record reaches a run once, however many handlers, queues and taps it passes.
"""

from __future__ import annotations

import json
import logging
from typing import Any, Optional, Union

from loghaul import claims, event, health, outlet
from loghaul.hot import take
from loghaul.plain import plain, text

_handlers = 0
#: True where more than one takes records: each then asks `claims` first.
shared = False
#: True where the tap takes what no handler took.
_late = False


class Handler(logging.Handler):
    """Keeps records of every level that passes.

    level      as in `logging.Handler`, default 0: everything
    run        id of the run; default: the run that `loghaul run` or `loghaul.init` started, else
               one of this process's own
    settings   any setting by its name (`experiment`, `node`, `tags`, `home`, `spool`, ...); an
               unknown one is noted in HOME/client.log and otherwise ignored

    Raises ValueError for a level that logging does not know, as every handler does.
    """

    def __init__(
        self, level: Union[int, str] = 0, run: Optional[str] = None, **settings: Any
    ) -> None:
        super().__init__(level)
        _count()
        given = {name: value for name, value in settings.items() if value is not None}
        if run is not None:
            given["run_id"] = run
        self._outlet = outlet.Outlet(**given) if given else outlet.DEFAULT
        # What a subclass overrides has to be asked, in logging's own order.
        own = type(self)
        if (
            own.emit is not Handler.emit
            or own.filter is not logging.Handler.filter
            or own.format is not logging.Handler.format
        ) and own.handle is Handler.handle:
            self.handle = self._handle_with_care  # type: ignore[method-assign]

    def handle(self, record: logging.LogRecord) -> Any:
        """Take a record that passes the filters; no lock is needed, the spool is thread safe."""
        if self.filters or self.formatter is not None:
            return self._handle_with_care(record)
        if not shared or claims.claim(record, _late):
            take(record, self._outlet)
        return True

    def setFormatter(self, fmt: Optional[logging.Formatter]) -> None:
        """Set a formatter. The one that `basicConfig` gives to handlers without one is none."""
        if type(fmt) is logging.Formatter and fmt._fmt == logging.BASIC_FORMAT and not fmt.datefmt:
            fmt = None
        self.formatter = fmt

    def _handle_with_care(self, record: logging.LogRecord) -> Any:
        passed = self.filter(record)
        if isinstance(passed, logging.LogRecord) and passed is not record:
            # Python 3.12: a filter may replace it. What it replaced must not come from the tap.
            if not shared or claims.claim(record, _late):
                self._keep(passed)
        elif passed:
            self.emit(record)
        return passed

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record without asking the filters."""
        if not shared or claims.claim(record, _late):
            self._keep(record)

    def _keep(self, record: logging.LogRecord) -> None:
        try:
            if self.formatter is None and type(self).format is logging.Handler.format:
                take(record, self._outlet)
            else:
                line = event.dump(self._formatted(record))
                self._outlet.put(line, event.time_of(record), record.levelno)
        except Exception as error:  # noqa: BLE001 - a script never fails because of its logging
            health.note("record lost", error)

    def _formatted(self, record: logging.LogRecord) -> dict[str, Any]:
        """Return the fields of a record with what the formatter makes of it."""
        if getattr(type(self.formatter), "makes_events", False):
            return event.fields(record)  # our own: the event is what it would say
        try:
            shown = text(self.format(record))
        except Exception as error:  # noqa: BLE001 - a formatter may raise anything
            health.note("formatter of a handler failed", error)
            return event.fields(record)
        if not _is_json_logger(self.formatter):
            return event.fields(record, message=shown)
        return _contributed(record, shown)


def _is_json_logger(formatter: Any) -> bool:
    """Tell without importing: the package is not there in every training environment."""
    return any(base.__module__.startswith("pythonjsonlogger") for base in type(formatter).__mro__)


def _contributed(record: logging.LogRecord, shown: str) -> dict[str, Any]:
    """Return a record with the fields that a formatter of python-json-logger gave it."""
    try:
        found = json.loads(shown[shown.index("{") :])
    except ValueError:
        return event.fields(record, message=shown)
    for name in ("exc_info", "stack_info", "taskName"):
        found.pop(name, None)
    message = found.pop("message", None)
    return event.fields(record, text(message) if message else None, plain(found))


def share(tapped: bool = False) -> None:
    """Make every handler ask who takes a record."""
    global shared, _late
    shared = True
    _late = _late or tapped


def _count() -> None:
    global _handlers
    _handlers += 1
    if _handlers > 1:
        share()
