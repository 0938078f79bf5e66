"""What can be told from a place in a segment where no valid record begins.

Pure functions over the bytes of a segment: the same bytes give the same answer to every reader,
to a writer that is reopened, and to whoever writes the end of an abandoned one.
"""

from __future__ import annotations

import re
from collections.abc import Container
from typing import NamedTuple, Optional
from zlib import crc32

from loghaul.spool.format import (
    AT_MOST,
    COUNTER,
    DATA,
    DECLARE,
    GAP,
    HEADER,
    HEADER_BYTES,
    LAST_KIND,
    LOG,
    MAX_PAYLOAD_BYTES,
    MAX_RECORD_BYTES,
    NO_STREAM,
    SITE,
    UNCOVERED_BYTES,
    aligned,
)

_NOT_ZERO = re.compile(rb"[^\0]")
#: What is not written yet is zeros, half a megabyte of them at each look: compared, not searched.
_ZEROS = bytes(4096)


class Read(NamedTuple):
    """A read from a pipe that was killed before its commit."""

    stream: int
    offset: int
    time_us: int
    data: bytes
    after: int


class Lost(NamedTuple):
    """A damaged record of which the header can be believed.

    kind      DATA or LOG; number: of a LOG record's site
    length    of the payload in bytes
    """

    kind: int
    stream: int
    number: int
    offset: int
    length: int


def is_valid(data: bytes, at: int) -> bool:
    """Tell whether a record with a good CRC begins at `at`."""
    if at + HEADER_BYTES > len(data):
        return False
    length, crc, _time, tag, _intent, _offset = HEADER.unpack_from(data, at)
    end = at + length
    if length < HEADER_BYTES or end > len(data):
        return False
    if tag >> 16 & 0xFF == GAP:
        return bool(crc == gap_crc(data, at, end))
    return bool(crc32(data[at + UNCOVERED_BYTES : end]) == crc)


def gap_crc(data: bytes, at: int, end: int) -> int:
    """Return the CRC of a GAP record, whose counter changes and is taken as zero."""
    crc = crc32(data[at + UNCOVERED_BYTES : at + HEADER_BYTES])
    crc = crc32(bytes(COUNTER.size), crc)
    return crc32(data[at + HEADER_BYTES + COUNTER.size : end], crc)


def next_record(data: bytes, at: int, streams: Container[int]) -> int:
    """Return where the next record of a known stream begins, from `at` on; -1: nowhere."""
    last = len(data) - HEADER_BYTES
    while True:
        while data.startswith(_ZEROS, at):
            at += len(_ZEROS)
        found = _NOT_ZERO.search(data, at)
        if found is None or found.start() & -8 > last:
            return -1
        # A record's first word is its length, so it begins in the 8 bytes that are not zero.
        at = found.start() & -8
        if _is_plausible(data, at, streams) and is_valid(data, at):
            return at
        at += 8


def _is_plausible(data: bytes, at: int, streams: Container[int]) -> bool:
    length, _crc, _time, tag, _intent, offset = HEADER.unpack_from(data, at)
    kind, stream = tag >> 16 & 0xFF, tag & 0xFFFF
    if kind > LAST_KIND or offset < 0 or length < HEADER_BYTES:
        return False
    if kind in (DATA, LOG) and length > MAX_RECORD_BYTES:
        return False
    return kind == DECLARE or stream == NO_STREAM or stream in streams


def killed_read(data: bytes, at: int) -> Optional[Read]:
    """Return the read whose commit is missing at `at`, if there is one."""
    if at + HEADER_BYTES > len(data):
        return None
    length, crc, time_us, tag, intent, offset = HEADER.unpack_from(data, at)
    begin = at + HEADER_BYTES
    if length or not intent or begin + intent > len(data) or tag >> 16 & 0xFF != DATA:
        return None
    covered = crc32(data[at + UNCOVERED_BYTES : begin])
    payload = data[begin : begin + intent]
    if tag >> 24 & AT_MOST:
        payload = payload.rstrip(b"\0")
    if not payload.strip(b"\0") or crc not in (covered, crc32(payload, covered)):
        return None
    return Read(tag & 0xFFFF, offset, time_us, payload, at + aligned(HEADER_BYTES + intent))


def mended_length(data: bytes, at: int, after: int) -> int:
    """Return the length of a record of which only the length word is damaged; 0: it is not that.

    The record ends in the 8 bytes before the next one (at `after`), or where zeros begin (-1).
    """
    stop = after if after >= 0 else (len(data[at:].rstrip(b"\0")) + at + 8)
    for end in range(min(stop, len(data)), max(stop - 16, at + HEADER_BYTES - 1), -1):
        crc, _time, tag, _intent, _offset = HEADER.unpack_from(data, at)[1:]
        if tag >> 16 in (DATA, LOG, SITE) and crc32(data[at + UNCOVERED_BYTES : end]) == crc:
            return end - at
    return 0


def lost_record(data: bytes, at: int, after: int, size: int) -> Optional[Lost]:
    """Return what is known of a damaged record that held bytes of a stream; None: nothing.

    Its header is believed where the next record (at `after`; -1: none) begins just behind it.
    `size` is what the segment has from `at` on, of which `data` may lack the end.
    """
    if at + HEADER_BYTES > len(data):
        return None
    length, _crc, _time, tag, number, offset = HEADER.unpack_from(data, at)
    end = at + aligned(length)
    payload = length - HEADER_BYTES
    if tag >> 16 not in (DATA, LOG) or not 0 < payload <= MAX_PAYLOAD_BYTES or end > size:
        return None
    if end != after and (after >= 0 or _NOT_ZERO.search(data, end)):
        return None
    return Lost(tag >> 16, tag & NO_STREAM, number, offset, payload)
