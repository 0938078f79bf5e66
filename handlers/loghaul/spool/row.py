"""The row of segments that a writer makes: the next one, within the budget; what is no data.

Everything here runs while its writer is held (see `loghaul.spool.appender`).
"""

from __future__ import annotations

import mmap
import time
from pathlib import Path
from time import time_ns
from typing import Optional

from loghaul.spool.budget import SPOOL_FULL, Budget, Limits, why
from loghaul.spool.declared import Declared
from loghaul.spool.digest import new_digest
from loghaul.spool.format import (
    COUNTER,
    DECLARE,
    GAP,
    HEADER_BYTES,
    LOG,
    MAX_PAYLOAD_BYTES,
    NO_STREAM,
    SITE,
    TAIL_BYTES,
    SegmentHeader,
)
from loghaul.spool.segment import KIB, Segment
from loghaul.spool.site import MAX_SITES, Site

#: While refusing, the disk is asked at most this often whether there is room again.
RETRY_SECONDS = 0.05
#: Sizes of segment that are tried when the regular one does not fit.
SMALL_SIZES = (256 * KIB, 64 * KIB, 16 * KIB)


class StreamState:
    """What a writer keeps of a stream besides its end."""

    __slots__ = ("declared", "digest", "gap_counter", "gap_end", "gap_reason")

    def __init__(self, declared: Declared, digest: bool) -> None:
        self.declared = declared
        self.digest = new_digest() if digest else None
        #: The GAP record that still grows: index into the segment's longs, and where it ends now.
        self.gap_counter = self.gap_end = -1
        self.gap_reason = ""


class Row:
    """The segments of one directory, and what may still be written to the last of them.

    refused    bytes that were not accepted, by reason
    """

    _segment: Segment
    _map: mmap.mmap
    _words: memoryview[int]
    #: Where the next record goes, what the hot path may fill, and what may be filled at all.
    _position: int
    _limit: int
    _hard_limit: int

    def __init__(self, writer: str, directory: Path, limits: Limits) -> None:
        self.id = writer
        self.directory = directory
        self.refused: dict[str, int] = {}
        self._budget = Budget(directory.parent, limits)
        self._offsets: list[int] = []
        self._streams: list[StreamState] = []
        self._dead = self._digesting = False
        self._floor: Optional[int] = -1
        self._reason = SPOOL_FULL
        self._asked = 0.0
        self._created = 0
        self._number = 0
        #: Call sites that the current segment declares; tag and number of their LOG records.
        self._sites: dict[Site, int] = {}

    def _count(self, reason: str, length: int) -> None:
        self.refused[reason] = self.refused.get(reason, 0) + length

    # -- room

    def _fits(self, length: int, severity: int) -> int:
        """Return how much of so many bytes the next record can hold, making room; 0: none."""
        if not self._welcome(severity):
            return 0
        room = self._hard_limit - self._position - HEADER_BYTES
        if length <= min(room, MAX_PAYLOAD_BYTES):
            return length
        if room >= MAX_PAYLOAD_BYTES:
            return MAX_PAYLOAD_BYTES
        if length > MAX_PAYLOAD_BYTES and room > TAIL_BYTES:
            return room & -8
        if not self._rotate(severity):
            return 0
        return min(length, MAX_PAYLOAD_BYTES, self._hard_limit - self._position - HEADER_BYTES)

    def _welcome(self, severity: int) -> bool:
        """Tell whether a record of this severity is taken now."""
        if self._floor == -1:
            return True
        while True:
            if time.monotonic() - self._asked >= RETRY_SECONDS:
                self._ask(0)
            if self._floor is not None and severity >= self._floor:
                return True
            if not self._budget.blocks or self._dead:
                return False
            time.sleep(RETRY_SECONDS)

    def _ask(self, wanted: int) -> None:
        """Ask the budget who is taken from now on."""
        self._asked = time.monotonic()
        self._floor, self._reason = self._budget.floor(wanted)
        self._set_limit()

    def _set_limit(self) -> None:
        """Let the hot path decide alone only while nobody is refused and nothing is hashed."""
        calm = self._floor == -1 and not self._digesting and not self._dead
        self._limit = self._hard_limit if calm else -1

    def _refuse(self, stream: int, length: int, time_us: int) -> None:
        """Count bytes that are not taken, in a GAP record where there is room for one."""
        state, offset = self._streams[stream], self._offsets[stream]
        self._count(self._reason, length)
        if state.gap_end != offset or state.gap_reason != self._reason:
            state.gap_counter = -1
            start = self._put(GAP, stream, COUNTER.pack(0) + self._reason.encode(), time_us)
            if start >= 0:
                state.gap_counter = (start + HEADER_BYTES) >> 3
                state.gap_reason = self._reason
        self._offsets[stream] = state.gap_end = offset + length
        if state.gap_counter >= 0:
            self._segment.longs[state.gap_counter] += length

    def _put(self, kind: int, stream: int, payload: bytes, time_us: int, number: int = 0) -> int:
        """Write a record that is not data, into the tail of the segment if need be."""
        segment = self._segment
        segment.used = self._position
        offset = 0 if stream == NO_STREAM else self._offsets[stream]
        start = segment.put(kind, stream, offset, time_us, payload, number)
        self._position = segment.used
        return start

    def _word_of(self, site: Site, stream: int) -> int:
        """Return tag and number of a site in this segment, declaring it if need be; 0: none."""
        word = self._sites.get(site, 0)
        if word or len(self._sites) >= MAX_SITES:
            return word
        number = len(self._sites) + 1
        if self._put(SITE, stream, site.encode(), time_ns() // 1000, number) < 0:
            return 0
        word = self._sites[site] = stream | LOG << 16 | number << 32
        return word

    # -- segments

    def _open_segment(self, directory: Path, size: int) -> None:
        """Create the next segment and go over to it. Raises OSError, and nothing has changed."""
        now = time_ns() // 1000
        segment = self._new_segment(directory, size, now)
        self._created += 1
        before = getattr(self, "_segment", None)
        self._segment = segment
        self._map, self._words = segment.map, segment.words
        self._sites = {}
        self._position = segment.used
        self._hard_limit = size - TAIL_BYTES
        for number, state in enumerate(self._streams):
            state.gap_counter = state.gap_end = -1
            self._put(DECLARE, number, state.declared.encode(), now)
        self._set_limit()
        if before is not None:
            before.close()

    def _new_segment(self, directory: Path, size: int, now: int) -> Segment:
        while True:
            try:
                segment = Segment(directory, SegmentHeader(self._number + 1, size, self.id, now))
            except FileExistsError:
                # Left by an attempt that a signal interrupted; readers find nothing in it.
                self._number += 1
                continue
            self._number += 1
            return segment

    def _open_any_segment(self, directory: Path, needed: int = 0) -> None:
        """Open the next segment whatever the budget says. Raises OSError: the disk is full."""
        sizes = self._next_sizes(needed)
        for size in sizes:
            try:
                self._open_segment(directory, size)
                return
            except OSError:
                if size == sizes[-1]:
                    raise

    def _next_sizes(self, needed: int = 0) -> list[int]:
        """Sizes to try for the next segment, in bytes: on a disk that is nearly full a small one.

        The declarations and what else is `needed` are at most a quarter of it.
        """
        declared = sum(len(s.declared.encode()) + HEADER_BYTES + 8 for s in self._streams)
        least = (4 * (declared + needed) + 4095) & -4096
        wanted = max(self._budget.segment_size(self._created), least)
        return [wanted, *(size for size in SMALL_SIZES if least <= size < wanted)]

    def _rotate(self, severity: int) -> bool:
        """Open the next segment if the budget lets a record of this severity have one."""
        while True:
            if any(self._try_segment(size, severity) for size in self._next_sizes()):
                return True
            if not self._budget.blocks or self._dead:
                return False
            time.sleep(RETRY_SECONDS)

    def _try_segment(self, size: int, severity: int) -> bool:
        self._ask(size)
        if self._floor is None or severity < self._floor:
            return False
        try:
            self._open_segment(self.directory, size)
        except OSError as error:
            self._floor, self._reason = None, why(error)
            self._set_limit()
            return False
        return True
