"""Moments: seconds as `time.time()` gives them, microseconds since the epoch, and their text.

Nothing here raises: what is no moment of the years 1970 to 9999 is the epoch itself, so that a
moment is always shown in the same number of characters.
"""

from __future__ import annotations

import time
from typing import Any

#: Microseconds of the first moment that has five digits for its year.
END_US = 253_402_300_800_000_000
SECOND_US = 1_000_000

#: The second that was shown last, in microseconds, and how.
_last: tuple[int, str] = (0, "1970-01-01T00:00:00.")


def microseconds(created: Any) -> int:
    """Return seconds since the epoch as whole microseconds; 0 for what is no moment."""
    try:
        time_us = int(created * 1e6)
    except (TypeError, ValueError, OverflowError):
        return 0
    return time_us if 0 <= time_us < END_US else 0


def stamp(time_us: int) -> str:
    """Return a moment in UTC as 26 characters of RFC 3339, without the Z behind them."""
    global _last
    second_us, date = _last
    micro = time_us - second_us
    if not 0 <= micro < SECOND_US:
        if not 0 <= time_us < END_US:
            time_us = 0
        micro = time_us % SECOND_US
        date = time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(time_us // SECOND_US))
        _last = time_us - micro, date
    return f"{date}{micro:06d}"
