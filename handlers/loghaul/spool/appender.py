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
import sys
import threading
import time
from collections import deque
from functools import partial
from pathlib import Path
from time import time_ns
from types import CodeType, FrameType
from typing import Any, Callable, Optional
from zlib import crc32

from loghaul.moment import microseconds
from loghaul.spool.budget import Limits
from loghaul.spool.format import (
    COVERED,
    HEADER_BYTES,
    LINE_COVERED,
    MAX_RECORD_BYTES,
    UNCOVERED_BYTES,
    aligned,
)
from loghaul.spool.row import Row
from loghaul.spool.site import Site

#: Reason of what comes after the end.
ENDED = "writer has ended"

_HAS_GIL = getattr(sys, "_is_gil_enabled", lambda: True)()
#: Test and set of an attribute are one step to other threads and to signal handlers.
ONE_STEP = sys.implementation.name == "cpython" and sys.version_info >= (3, 10) and _HAS_GIL

_pack, _pack_line = COVERED.pack, LINE_COVERED.pack


def _alone(method: Callable[..., bool]) -> Callable[..., bool]:
    """Put a method under the writer's mutex where a flag is not enough."""
    if ONE_STEP:
        return method

    @functools.wraps(method)
    def locked(self: Appender, *arguments: Any, **named: Any) -> bool:
        with self._mutex:
            return method(self, *arguments, **named)

    return locked


class Appender(Row):
    """Appends to a row of segments, one thread at a time."""

    def __init__(self, writer: str, directory: Path, limits: Limits) -> None:
        super().__init__(writer, directory, limits)
        self._busy = False
        self._mutex = threading.RLock()
        self._deferred: deque[Callable[[], object]] = deque()

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
            if time_us is None:
                time_us = time_ns() // 1000
            return self._contended(partial(self._accept, stream, bytes(data), time_us, severity))
        self._busy = True
        try:
            if time_us is None:
                time_us = time_ns() // 1000
            start = self._position
            length = len(data) + HEADER_BYTES
            after = start + ((length + 7) & -8)
            if after > self._limit or length > MAX_RECORD_BYTES:
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

    def log(
        self, stream: int, site: Site, created: float, message: bytes, severity: int = 20
    ) -> bool:
        """Append one line of an events stream, without copying what its site has in common.

        site        of this stream; declared with its first line in a segment
        created     of the log record, seconds since the epoch
        message     as it stands in the line

        `loghaul.hot.take` has the hot path of it written out.
        """
        work = partial(self._accept_line, stream, site, created, message, severity)
        return self._contended(work)

    def _contended(self, work: Callable[[], bool]) -> bool:
        if self._is_mine(3):
            # The holder is further down this very stack: it takes the record when it is done.
            self._deferred.append(work)
            return True
        self._enter()
        try:
            return work()
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
            name = HOLDERS.get(frame.f_code) if own < 0 else None
            if name is not None and frame.f_locals.get(name) is self:
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

    def _accept_line(
        self, stream: int, site: Site, created: float, message: bytes, severity: int
    ) -> bool:
        """Log while holding the writer: as a LOG record where that is possible, else as DATA."""
        together = len(site.encode()) + HEADER_BYTES + 8 + len(message)
        if (
            self._dead
            or self._streams[stream].digest is not None
            # A line that fills much of a segment is better cut than given a new one.
            or together > self._segment.size // 4
            or self._fits(together, severity) != together
        ):
            word = 0
        else:
            word = self._word_of(site, stream)
        if not word:
            time_us = microseconds(created)
            return self._accept(stream, site.line(created, message), time_us, severity)
        offset = self._offsets[stream]
        record = _pack_line(created, word, offset) + message
        self._put_record(record, stream, offset + site.length + len(message))
        return True

    def _put_data(self, stream: int, data: memoryview, time_us: int) -> None:
        offset = self._offsets[stream]
        self._put_record(_pack(time_us, stream, 0, offset) + data, stream, offset + len(data))

    def _put_record(self, record: bytes, stream: int, end: int) -> None:
        start = self._position
        length = len(record) + UNCOVERED_BYTES
        self._map[start + UNCOVERED_BYTES : start + length] = record
        self._words[(start >> 2) + 1] = crc32(record)
        after = start + aligned(length)
        # As in append: nothing is called from here on, so that no interrupt comes in between.
        self._position = after
        self._offsets[stream] = end
        self._words[start >> 2] = length


#: Code that holds a writer while it runs, and how it calls it.
HOLDERS: dict[CodeType, str] = {
    getattr(method, "__wrapped__", method).__code__: "self"
    for method in (Appender.append, Appender._contended, Appender._guarded)
}
