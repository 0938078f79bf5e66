"""What reaches the terminal: colour only where it is wanted, no control character of others.

Text from metadata (ids, tags, paths, reasons) is shown escaped: a run named with an escape
sequence must not move the cursor of whoever lists it. Log lines may be coloured by who wrote them;
`plain` takes that away where the output is not a terminal.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from typing import Any

import click

_ANSI = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b\n]*(?:\x07|\x1b\\)|[ -/]*[0-Z\\^-~])")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

#: log.level -> colour, as lnav and most loggers show it.
LEVEL_COLOURS = {
    "critical": "bright_red",
    "fatal": "bright_red",
    "error": "red",
    "warning": "yellow",
    "debug": "bright_black",
    "trace": "bright_black",
}

#: run status -> colour
STATUS_COLOURS = {
    "running": "cyan",
    "completed": "green",
    "failed": "red",
    "canceled": "yellow",
    "lost": "magenta",
}

#: One colour per source of a mixed view, as stern does it.
SOURCE_COLOURS = ("cyan", "magenta", "green", "blue", "yellow", "bright_cyan", "bright_magenta")

#: Of a terminal, what log lines may do there: colours (SGR), nothing that moves or asks.
_HARMLESS = re.compile(rb"\x1b\[[0-9;:]*m")


def escape(text: object) -> str:
    """Return text with control and direction characters shown as `\\x1b`, `\\u202e`."""
    return _CONTROL.sub(lambda match: _code(match[0]), str(text))


def _code(character: str) -> str:
    number = ord(character)
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}"


def plain(data: bytes) -> bytes:
    """Return data without its ANSI sequences."""
    return _ANSI.sub(b"", data) if b"\x1b" in data else data


def colours_only(data: bytes) -> bytes:
    """Return data with its colours, but without sequences that move the cursor or ask back."""
    if b"\x1b" not in data:
        return data
    return _ANSI.sub(lambda match: match[0] if _HARMLESS.fullmatch(match[0]) else b"", data)


def wants_colour(choice: str = "auto") -> bool:
    """Return whether to colour stdout: `choice` is "auto", "always" or "never"."""
    if choice != "auto":
        return choice == "always"
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return sys.stdout.isatty()


def console(stderr: bool = False) -> Any:
    """Return a rich console on stdout (or stderr) that knows about NO_COLOR and pipes."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, markup=False, soft_wrap=False)


def write(data: bytes) -> None:
    """Write bytes to stdout as they are."""
    out = getattr(sys.stdout, "buffer", None)
    if out is None:
        sys.stdout.write(data.decode("utf-8", "replace"))
    else:
        out.write(data)


def is_closed() -> bool:
    """Return whether the user closed stdout: a stand-in, with a number for a name, goes nowhere."""
    return isinstance(getattr(sys.stdout, "name", None), int)


def flush() -> None:
    """Let a reader of our output see it now."""
    sys.stdout.flush()


def notice(text: str) -> None:
    """Say something beside the output, on stderr."""
    click.echo(f"loghaul: {escape(text)}", err=True)


def dumps(value: Any) -> bytes:
    """Return one line of JSON; lone surrogates, which orjson refuses, as escapes."""
    import orjson

    try:
        return orjson.dumps(value)
    except TypeError:
        import json

        return json.dumps(value, separators=(",", ":"), default=str).encode()


def table(titles: Sequence[str], rows: Sequence[Sequence[str]], right: frozenset[int]) -> str:
    """Return rows as aligned plain text; `right` are the columns of numbers."""
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    lines = []
    for row in (titles, *rows):
        cells = [
            cell.rjust(width) if index in right else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def size(count: int) -> str:
    """Return bytes for people: `1.4 MB`."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.5 or unit == "GB":
            break
        value /= 1000
    return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"


def when(time_us: int) -> str:
    """Return a time in local time for people: `2026-11-23 22:14:05`."""
    from datetime import datetime

    try:
        return datetime.fromtimestamp(time_us / 1e6).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return str(time_us)


def utc(time_us: int) -> str:
    """Return a time as RFC 3339 in UTC with microseconds."""
    from datetime import UTC, datetime, timedelta

    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_us)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def duration(seconds: float) -> str:
    """Return a length of time for people: `3.2s`, `4m05s`, `2h10m`, `3d04h`."""
    if seconds < 59.95:
        return f"{max(0.0, seconds):.1f}s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"
