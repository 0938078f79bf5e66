"""Values of options that several commands take: a level, a moment."""

from __future__ import annotations

import re
import time
from typing import Any

import click

from loghaul_ingest.levels import canonical

LEVELS = ("trace", "debug", "info", "warning", "error", "critical")


class Level(click.Choice[str]):
    """A level by any name that lines have for it: `warn` is `warning`."""

    def __init__(self) -> None:
        super().__init__(LEVELS, case_sensitive=False)

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return loghaul's name."""
        return super().convert(canonical(value), param, ctx)


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_AGO = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")


class Moment(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """A moment: how long ago (`90s`, `10m`, `2h`, `1d12h`), or an ISO 8601 time."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return microseconds since the epoch."""
        if isinstance(value, int):
            return value
        text = value.strip().lower()
        if _AGO.sub("", text).strip() == "" and text:
            ago = sum(float(number) * _UNITS[unit] for number, unit in _AGO.findall(text))
            return int((time.time() - ago) * 1e6)
        from datetime import datetime

        try:
            return int(datetime.fromisoformat(value.strip()).timestamp() * 1e6)
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is no time; try 90s, 10m, 2h, 1d or 2026-11-23T22:00:00Z")
