"""Times: microseconds since the epoch inside, RFC 3339 in UTC at the edges."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_RFC3339 = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)", re.ASCII
)
#: What `datetime` can hold: the years 1 to 9999.
_LEAST, _GREATEST = -62_135_596_800_000_000, 253_402_300_799_999_999


def micros(text: Any) -> int | None:
    """Return the microseconds of an RFC 3339 time, None when it is none (or has no zone)."""
    if not isinstance(text, str) or not _RFC3339.fullmatch(text):
        return None
    try:
        return (datetime.fromisoformat(text.upper()) - _EPOCH) // _MICROSECOND
    except ValueError:
        return None


def rfc3339(time_us: int) -> str:
    """Return a time as RFC 3339 in UTC with microseconds; what no calendar holds is clamped."""
    time = _EPOCH + timedelta(microseconds=min(max(time_us, _LEAST), _GREATEST))
    return time.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
