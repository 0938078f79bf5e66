"""Room in the spool while nothing can be shipped: what has to go is the oldest, as whole segments.

Writers refuse first (DEBUG, then INFO: see `loghaul.spool.budget`). Only when they would have to
refuse everything is old data dropped for new: what is dropped becomes gaps.
"""

from __future__ import annotations

from typing import Callable

from loghaul.config import Settings
from loghaul.spool import BLOCK, Limits, drop_oldest
from loghaul.spool.budget import Budget
from loghaul.spool.segment import KIB

#: What a writer asks for next, about; and the share of the bound that is made free at once.
WANTED_BYTES, SHARE = 256 * KIB, 0.12


def make_room(settings: Settings, note: Callable[..., None]) -> int:
    """Drop what is oldest where writers cannot go on; return the bytes that were freed."""
    limits = Limits(settings.spool_max_bytes, settings.spool_reserve_bytes, settings.spool_full)
    if limits.full == BLOCK:
        return 0
    wanted = min(WANTED_BYTES, limits.max_bytes // 32)
    floor, reason = Budget(settings.spool, limits).floor(wanted)
    if floor is not None:
        return 0
    freed = drop_oldest(settings.spool, int(limits.max_bytes * SHARE))
    if freed:
        note("oldest lines dropped from the spool, shipped they were not", bytes=freed, why=reason)
    return freed
