"""Appending to segments: it costs a copy into a map, and survive the writer's death.

`append` promises: thread safe, re-entrancy safe (signal handlers, destructors, a log call made
while logging), never raises, never blocks unless the user chose so, and no system call except
where a segment ends. A record for which it returned True is there after a SIGKILL.

How appends exclude each other: `_busy` is tested and set without a call in between. CPython with
a GIL (3.10 and later) changes threads and runs signal handlers only at calls, backward jumps and
function starts, so test and set are one step, at a tenth of a lock's price. Elsewhere (3.9, free
threading, other interpreters) `append` takes an RLock around the same code. Whoever finds the
flag set asks the stack: is the holder a frame of this very thread, the call is a re-entrant one
and its record is put aside until the holder is done; else it waits for the other thread.
"""

from __future__ import annotations

import functools
import hashlib
import mmap
import sys
import threading
import time
from collections import deque
from functools import partial
from pathlib import Path
from time import time_ns
from types import FrameType
from typing import Any, Callable, Optional
from zlib import crc32

from loghaul.spool.budget import SPOOL_FULL, Budget, Limits, why
from loghaul.spool.declared import Declared
from loghaul.spool.format import (
    COUNTER,
    COVERED,
    DECLARE,
    GAP,
    HEADER_BYTES,
    MAX_PAYLOAD_BYTES,
    NO_STREAM,
    TAIL_BYTES,
    SegmentHeader,
    aligned,
)
from loghaul.spool.segment import KIB, Segment

#: While refusing, the disk is asked at most this often whether there is room again.
RETRY_SECONDS = 0.05
#: Sizes of segment that are tried when the regular one does not fit.
SMALL_SIZES = (256 * KIB, 64 * KIB, 16 * KIB)
#: Reason of what comes after the end.
ENDED = "writer has ended"

_HAS_GIL = getattr(sys, "_is_gil_enabled", lambda: True)()
#: Test and set of an attribute are one step to other threads and to signal handlers.
ONE_STEP = sys.implementation.name == "cpython" and sys.version_info >= (3, 10) and _HAS_GIL

_pack = COVERED.pack


def _alone(method: Callable[..., bool]) -> Callable[..., bool]:
    """Put a method under the writer's mutex where a flag is not enough."""
    if ONE_STEP:
        return method

    @functools.wraps(method)
    def locked(self: Appender, *arguments: Any, **named: Any) -> bool:
        with self._mutex:
            return method(self, *arguments, **named)

    return locked


class StreamState:
    """What a writer keeps of a stream besides its end."""

    __slots__ = ("declared", "digest", "gap_counter", "gap_end", "gap_reason")

    def __init__(self, declared: Declared, digest: bool) -> None:
        self.declared = declared
        self.digest = hashlib.sha256() if digest else None
        #: The GAP record that still grows: index into the segment's longs, and where it ends now.
        self.gap_counter = self.gap_end = -1
        self.gap_reason = ""


class Appender:
    """Appends to the segments of one directory, one thread at a time, within a budget.

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
        self._busy = False
        self._mutex = threading.RLock()
        self._deferred: deque[Callable[[], object]] = deque()
        self._offsets: list[int] = []
        self._streams: list[StreamState] = []
        self._dead = self._digesting = False
        self._floor: Optional[int] = -1
        self._reason = SPOOL_FULL
        self._asked = 0.0
        self._created = 0
        self._number = 0

    # -- the hot path

    @_alone
    def append(
        self, stream: int, data: bytes, time_us: Optional[int] = None, severity: int = 20
    ) -> bool:
        """Append bytes to a stream; False when they were refused: they are then a gap.

        time_us     of arrival, microseconds since the epoch; now where it is None
        severity    Python's number; decides who is refused first when space runs out
        """
        if self._busy:
            return self._append_contended(stream, data, time_us, severity)
        self._busy = True
        try:
            if time_us is None:
                time_us = time_ns() // 1000
            start = self._position
            length = len(data) + HEADER_BYTES
            after = start + ((length + 7) & -8)
            if after > self._limit:
                return self._accept(stream, data, time_us, severity)
            offsets = self._offsets
            offset = offsets[stream]
            record = _pack(time_us, stream, 0, offset) + data
            self._map[start + 8 : start + length] = record
            words = self._words
            index = start >> 2
            words[index + 1] = crc32(record)
            self._position = after
            offsets[stream] = offset + length - HEADER_BYTES
            words[index] = length
            return True
        except Exception as error:  # noqa: BLE001 - the script must never see an error of ours
            return self._failed(error)
        finally:
            try:
                # Nothing is called between this test and the flag's fall: no signal in between.
                while self._deferred:
                    self._drain()
            finally:
                self._busy = False

    def _append_contended(
        self, stream: int, data: bytes, time_us: Optional[int], severity: int
    ) -> bool:
        if time_us is None:
            time_us = time_ns() // 1000
        if self._is_mine(3):
            # The holder is further down this very stack: it takes the record when it is done.
            self._deferred.append(partial(self._accept, stream, bytes(data), time_us, severity))
            return True
        self._enter()
        try:
            return self._accept(stream, data, time_us, severity)
        except Exception as error:  # noqa: BLE001 - as in append
            return self._failed(error)
        finally:
            self._leave()

    # -- exclusion

    def _is_mine(self, own: int) -> bool:
        """Tell whether a frame of this thread holds this writer (or waits for it).

        own    frames of the call in question itself, this one included
        """
        frame: Optional[FrameType] = sys._getframe()
        while frame is not None:
            own -= 1
            if own < 0 and frame.f_code in HOLDERS and frame.f_locals.get("self") is self:
                return True
            frame = frame.f_back
        return False

    def _guarded(self, work: Callable[[], object]) -> None:
        """Do something alone: now, or when a holder further down this stack is done."""
        if self._busy and self._is_mine(2):
            self._deferred.append(work)
            return
        self._enter()
        try:
            work()
        finally:
            self._leave()

    def _enter(self) -> None:
        if not ONE_STEP:
            self._mutex.acquire()
        while self._busy:
            time.sleep(0.0001)
        self._busy = True

    def _leave(self) -> None:
        try:
            while self._deferred:
                self._drain()
        finally:
            self._busy = False
            if not ONE_STEP:
                self._mutex.release()

    def _drain(self) -> None:
        """Do what was put aside, while still holding the writer."""
        work = self._deferred.popleft()
        try:
            work()
        except Exception as error:  # noqa: BLE001 - as in append
            self._failed(error)

    def _failed(self, error: Exception) -> bool:
        self._count(f"not a record: {type(error).__name__}", 1)
        return False

    def _count(self, reason: str, length: int) -> None:
        self.refused[reason] = self.refused.get(reason, 0) + length

    # -- accepting with care: no room, refusal, digests, long data

    def _accept(self, stream: int, data: bytes, time_us: int, severity: int) -> bool:
        """Append while holding the writer, whatever the state of things."""
        if self._dead:
            self._count(ENDED, len(data))
            return False
        digest = self._streams[stream].digest
        if digest is not None:
            digest.update(data)
        rest = memoryview(data).cast("B")
        while True:
            piece = self._fits(len(rest), severity)
            if not piece and len(rest):
                self._refuse(stream, len(rest), time_us)
                return False
            self._put_data(stream, rest[:piece], time_us)
            rest = rest[piece:]
            if not len(rest):
                return True

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

    def _put_data(self, stream: int, data: memoryview, time_us: int) -> None:
        start, offset = self._position, self._offsets[stream]
        length = len(data) + HEADER_BYTES
        record = _pack(time_us, stream, 0, offset) + data
        self._map[start + 8 : start + length] = record
        self._words[(start >> 2) + 1] = crc32(record)
        self._position = start + aligned(length)
        self._offsets[stream] = offset + len(data)
        self._words[start >> 2] = length

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

    def _put(self, kind: int, stream: int, payload: bytes, time_us: int) -> int:
        """Write a record that is not data, into the tail of the segment if need be."""
        segment = self._segment
        segment.used = self._position
        offset = 0 if stream == NO_STREAM else self._offsets[stream]
        start = segment.put(kind, stream, offset, time_us, payload)
        self._position = segment.used
        return start

    # -- segments

    def _open_segment(self, directory: Path, size: int) -> None:
        """Create the next segment and go over to it. Raises OSError, and nothing has changed."""
        now = time_ns() // 1000
        segment = self._new_segment(directory, size, now)
        self._created += 1
        before = getattr(self, "_segment", None)
        self._segment = segment
        self._map, self._words = segment.map, segment.words
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


HOLDERS = {
    getattr(method, "__wrapped__", method).__code__
    for method in (Appender.append, Appender._append_contended, Appender._guarded)
}
