"""Times as people write them: `10m`, `now-1h`, `2026-11-23T10:00`, `10:22`, seconds since 1970.

Without a zone a time is UTC, as loghaul prints it. All results are microseconds since the epoch.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta

_UNITS = {
    "us": 1,
    "ms": 1_000,
    "s": 1_000_000,
    "m": 60_000_000,
    "h": 3_600_000_000,
    "d": 86_400_000_000,
    "w": 7 * 86_400_000_000,
}
_PART = r"\d{1,12}(?:\.\d{1,9})?(?:us|ms|[smhdw])"
_DURATION = re.compile(rf"(?:{_PART})+", re.ASCII)
_ONE_PART = re.compile(r"(\d+(?:\.\d+)?)(us|ms|[smhdw])", re.ASCII)
_NOW = re.compile(rf"now(?:([+-])((?:{_PART})+))?", re.ASCII)
_CLOCK = re.compile(r"\d{1,2}:\d\d(?::\d\d(?:[.,]\d{1,6})?)?", re.ASCII)
_EPOCH = re.compile(r"\d{9,19}(?:\.\d{1,6})?", re.ASCII)
_EPOCH_START = datetime(1970, 1, 1, tzinfo=UTC)
#: Years 1 and 9999: what can be written as a date again.
_FIRST, _LAST = -62_135_596_800_000_000, 253_402_300_799_000_000


def duration(text: str) -> int | None:
    """Return the microseconds of `10m`, `1h30m`, `500ms`; None if it is no duration."""
    if not _DURATION.fullmatch(text):
        return None
    return sum(round(float(number) * _UNITS[unit]) for number, unit in _ONE_PART.findall(text))


def moment(text: str, now_us: int) -> int | None:
    """Return the moment that a text means; None if it means none. A duration is that long ago."""
    found = _moment(text.strip(), now_us)
    return None if found is None else min(max(found, _FIRST), _LAST)


def _moment(text: str, now_us: int) -> int | None:
    ago = duration(text)
    if ago is not None:
        return now_us - ago
    relative = _NOW.fullmatch(text)
    if relative:
        shift = duration(relative[2]) if relative[2] else 0
        return now_us + (-(shift or 0) if relative[1] == "-" else (shift or 0))
    if _EPOCH.fullmatch(text):
        return _from_epoch(text)
    try:
        return _from_calendar(text, now_us)
    except (ValueError, OverflowError):
        return None


def precision(text: str) -> int:
    """Return for how many microseconds a time as written stands: a day, a minute, a second."""
    text = text.strip()
    if re.fullmatch(r"\d{4}-\d\d-\d\d", text, re.ASCII):
        return _UNITS["d"]
    if re.search(r"(?:^|[T ])\d{1,2}:\d\d(?:Z|[+-]\d\d:?\d\d)?$", text, re.ASCII):
        return _UNITS["m"]
    return _UNITS["s"] if "." not in text and "," not in text else 1


def written(moment_us: int) -> str:
    """Return a moment as RFC 3339, UTC, with microseconds."""
    moment = _EPOCH_START + timedelta(microseconds=moment_us)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ").rjust(27, "0")


def _from_epoch(text: str) -> int:
    """Seconds, milliseconds, microseconds or nanoseconds: told apart by their size."""
    whole = int(text.partition(".")[0])
    if whole < 100_000_000_000:
        return round(float(text) * 1_000_000) if "." in text else whole * 1_000_000
    if whole < 100_000_000_000_000:
        return whole * 1_000
    return whole if whole < 100_000_000_000_000_000 else whole // 1_000


def _from_calendar(text: str, now_us: int) -> int:
    if _CLOCK.fullmatch(text):
        today = (_EPOCH_START + timedelta(microseconds=now_us)).date()
        padded = text.replace(",", ".").rjust(len(text) + (text.index(":") == 1), "0")
        moment = datetime.combine(today, time.fromisoformat(padded), UTC)
    elif len(text) == 10:
        moment = datetime.combine(date.fromisoformat(text), time(), UTC)
    else:
        moment = datetime.fromisoformat(text.replace(",", "."))
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH_START) // timedelta(microseconds=1)
