"""Lines of LOG records, put together again by readers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple
from zlib import crc32

from loghaul.moment import SECOND_US, microseconds, stamp
from loghaul.spool.format import HEADER_BYTES, LOG_HEADER
from loghaul.spool.site import Site

#: Records of an events stream that arrived within this time are one entry.
TOGETHER_US = 10_000
#: An entry begins no further record behind so many bytes, and so is always less than a chunk.
TOGETHER_BYTES = 64 * 1024


class Run(NamedTuple):
    """Lines that follow each other directly, as one piece of their stream.

    after     where the next record begins
    time_us   of the first line; all others come within 10 ms
    """

    after: int
    offset: int
    time_us: int
    data: bytes


def read_run(window: bytes, at: int, sites: Mapping[int, Site]) -> Run:
    """Return the lines from `at` on: valid LOG records of one stream; without any, `after` is `at`.

    sites    by number, as the segment has declared them so far
    """
    unpack, size = LOG_HEADER.unpack_from, len(window)
    _, _, created, first_tag, _, first = unpack(window, at)
    expected, full = first, first + TOGETHER_BYTES
    first_us = microseconds(created)
    second_us, date = _second(first_us)
    parts: list[bytes] = []
    while at + HEADER_BYTES <= size and expected < full:
        length, crc, created, tag, number, offset = unpack(window, at)
        end = at + length
        site = sites.get(number)
        if tag != first_tag or offset != expected or site is None or length < HEADER_BYTES:
            break
        covered = window[at + 8 : end]
        if end > size or crc32(covered) != crc:
            break
        try:
            micro = int(created * 1e6) - second_us
        except (ValueError, OverflowError):
            micro = -1
        if not 0 <= micro < SECOND_US:
            time_us = microseconds(created)
            second_us, date = _second(time_us)
            micro = time_us - second_us
        if second_us + micro - first_us > TOGETHER_US:
            break
        parts += (site.before, date, b"%06d" % micro, site.head, covered[24:], site.tail)
        expected += site.length + length - HEADER_BYTES
        at = (end + 7) & -8
    return Run(at, first, first_us, b"".join(parts))


def _second(time_us: int) -> tuple[int, bytes]:
    """Return the second of a moment in microseconds, and its text up to the microseconds."""
    return time_us - time_us % SECOND_US, stamp(time_us)[:-6].encode()
