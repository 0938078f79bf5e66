"""loghaul: hauls the logs of machine-learning runs from the script to the person who needs them.

This is the client: it runs beside a training script, on the standard library alone. Importing it
loads nothing; each name is loaded when it is first used.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing would be half of the time that importing this takes
if TYPE_CHECKING:
    from typing import Any

    from loghaul.config import Settings
    from loghaul.errors import LoghaulError
    from loghaul.formatter import JsonFormatter
    from loghaul.handler import Handler
    from loghaul.processor import structlog_processor
    from loghaul.session import Session, init

__version__ = "0.1.0"

__all__ = [
    "Handler",
    "JsonFormatter",
    "LoghaulError",
    "Session",
    "Settings",
    "__version__",
    "init",
    "structlog_processor",
]

_PLACES = {
    "Handler": "handler",
    "JsonFormatter": "formatter",
    "LoghaulError": "errors",
    "Session": "session",
    "Settings": "config",
    "init": "session",
    "structlog_processor": "processor",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'loghaul' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"loghaul.{_PLACES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
