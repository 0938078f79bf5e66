"""The writing end of the spool: appends cost a copy into a map, and survive the writer's death.

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

import errno
import fcntl
import hashlib
import json
import os
import select
import shutil
import struct
import sys
import termios
import time
import uuid
import weakref
from collections import deque
from functools import partial
from pathlib import Path
from time import time_ns
from typing import Any, Callable, Optional
from zlib import crc32

from loghaul.errors import SpoolError
from loghaul.spool import lock
from loghaul.spool.budget import SPOOL_FULL, Budget, Limits, why
from loghaul.spool.declared import Declared
from loghaul.spool.facts import WriterFacts, write_facts
from loghaul.spool.format import (
    AT_MOST,
    CLOSE,
    COUNTER,
    COVERED,
    DATA,
    DECLARE,
    END,
    GAP,
    HEADER_BYTES,
    MAX_PAYLOAD_BYTES,
    NO_STREAM,
    TAIL_BYTES,
    UNCOVERED_BYTES,
    SegmentHeader,
    aligned,
)
from loghaul.spool.segment import Segment

#: While refusing, the disk is asked at most this often whether there is room again.
RETRY_SECONDS = 0.05
#: Severity of captured output: it is refused last.
OUTPUT_SEVERITY = 40

DEFAULT_LIMITS = Limits()

_pack = COVERED.pack


class _Stream:
    """What a writer keeps of a stream besides its end."""

    __slots__ = ("declared", "digest", "gap_counter", "gap_end", "gap_reason")

    def __init__(self, declared: Declared, digest: bool) -> None:
        self.declared = declared
        self.digest = hashlib.sha256() if digest else None
        #: The GAP record that still grows: index into the segment's longs, and where it ends now.
        self.gap_counter = self.gap_end = -1
        self.gap_reason = ""


class SpoolWriter:
    """A writer of the spool: one process, one directory, one growing row of segments.

    id          32 hex digits
    started     microseconds since the epoch
    directory   root/id
    forked      True in a child of the process that made it: it accepts nothing there
    refused     bytes that were not accepted, by reason
    """

    def __init__(
        self,
        root: Path,
        facts: dict[str, Any],
        *,
        limits: Limits = DEFAULT_LIMITS,
        writer: Optional[str] = None,
    ) -> None:
        """Create root/<id>. Raises SpoolError when that is not possible (space, permissions)."""
        self.id = uuid.UUID(writer).hex if writer else uuid.uuid4().hex
        self.started = time_ns() // 1000
        self._prepare(Path(root) / self.id, limits)
        try:
            self._create(facts)
        except OSError as error:
            raise SpoolError(
                f"cannot create the spool {self.directory}: {error.strerror or error}; "
                "records are not kept until this is mended"
            ) from error
        _writers.add(self)

    def _prepare(self, directory: Path, limits: Limits) -> None:
        self.directory = directory
        self.forked = False
        self.refused: dict[str, int] = {}
        self._budget = Budget(directory.parent, limits)
        self._busy = False
        self._deferred: deque[Callable[[], object]] = deque()
        self._offsets: list[int] = []
        self._streams: list[_Stream] = []
        self._numbers: dict[str, int] = {}
        self._dead = self._keep = self._digesting = False
        self._floor: Optional[int] = -1
        self._reason = SPOOL_FULL
        self._asked = 0.0
        self._created = 0
        self._number = 0
        self._lock_fd = -1

    def _create(self, facts: dict[str, Any]) -> None:
        """Make the directory under a dotted name: nobody sees it without lock and facts."""
        root = self.directory.parent
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        making = root / f".{self.id}"
        making.mkdir(mode=0o700)
        try:
            self._lock_fd = lock.take(making) or -1
            write_facts(making, WriterFacts(self.id, self.started, facts))
            self._open_segment(making, self._budget.segment_size(0))
            making.rename(self.directory)
        except BaseException:
            shutil.rmtree(making, ignore_errors=True)
            if self._lock_fd >= 0:
                os.close(self._lock_fd)
            raise

    # -- the hot path

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
            self._busy = False
            if self._deferred:
                self._drain()

    def _append_contended(
        self, stream: int, data: bytes, time_us: Optional[int], severity: int
    ) -> bool:
        if time_us is None:
            time_us = time_ns() // 1000
        if self._is_mine():
            # The holder is further down this very stack: it takes the record when it is done.
            self._deferred.append(partial(self.append, stream, bytes(data), time_us, severity))
            return True
        self._enter()
        try:
            return self._accept(stream, data, time_us, severity)
        except Exception as error:  # noqa: BLE001 - as in append
            return self._failed(error)
        finally:
            self._leave()

    # -- exclusion

    def _is_mine(self) -> bool:
        """Tell whether a frame of this thread holds this writer (or waits for it)."""
        frame = sys._getframe(1).f_back
        while frame is not None:
            if frame.f_code in _HOLDERS and frame.f_locals.get("self") is self:
                return True
            frame = frame.f_back
        return False

    def _enter(self) -> None:
        while self._busy:
            time.sleep(0.0001)
        self._busy = True

    def _leave(self) -> None:
        self._busy = False
        if self._deferred:
            self._drain()

    def _drain(self) -> None:
        while self._deferred:
            try:
                self._deferred.popleft()()
            except IndexError:
                return

    def _failed(self, error: Exception) -> bool:
        reason = f"not a record: {type(error).__name__}"
        self.refused[reason] = self.refused.get(reason, 0) + 1
        return False

    # -- accepting with care: no room, refusal, digests, long data

    def _accept(self, stream: int, data: bytes, time_us: int, severity: int) -> bool:
        """Append while holding the writer, whatever the state of things."""
        if self._dead:
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
        self.refused[self._reason] = self.refused.get(self._reason, 0) + length
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
        header = SegmentHeader(self._number + 1, size, self.id, now)
        segment = Segment(directory, header)
        self._number += 1
        self._created += 1
        before = getattr(self, "_segment", None)
        if before is not None:
            before.used = self._position
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

    def _next_size(self) -> int:
        """Bytes of the next segment: the declarations are at most a quarter of it."""
        declared = sum(len(s.declared.encode()) + HEADER_BYTES + 8 for s in self._streams)
        return max(self._budget.segment_size(self._created), (4 * declared + 4095) & -4096)

    def _rotate(self, severity: int) -> bool:
        """Open the next segment if the budget lets a record of this severity have one."""
        size = self._next_size()
        while True:
            self._ask(size)
            if self._floor is not None and severity >= self._floor:
                try:
                    self._open_segment(self.directory, size)
                    return True
                except OSError as error:
                    self._floor, self._reason = None, why(error)
                    self._set_limit()
            if not self._budget.blocks or self._dead:
                return False
            time.sleep(RETRY_SECONDS)

    # -- streams

    def stream(
        self,
        name: str,
        kind: str,
        path: str,
        iostream: Optional[str] = None,
        digest: bool = False,
        **facts: Any,
    ) -> int:
        """Declare a stream and return its number; the same name gives the same number.

        digest    hash every byte, and carry the SHA-256 in the end record
        """
        known = self._numbers.get(name)
        if known is not None:
            return known
        number = len(self._streams)
        if number >= NO_STREAM:
            raise SpoolError(f"a writer has at most {NO_STREAM} streams; {name!r} is one too many")
        self._offsets.append(0)
        self._streams.append(_Stream(Declared(number, name, kind, path, iostream, facts), digest))
        self._numbers[name] = number
        self._guarded(partial(self._declare, number, digest))
        return number

    def _declare(self, number: int, digest: bool) -> None:
        if digest:
            self._digesting = True
            self._set_limit()
        payload = self._streams[number].declared.encode()
        room = self._hard_limit - self._position
        if self._dead or (room >= HEADER_BYTES + len(payload) and self._declared(number, payload)):
            return
        # A new segment begins with all declarations, this one among them. Until there is one,
        # nothing is taken: a reader could not place it.
        if not self._rotate(OUTPUT_SEVERITY):
            self._hard_limit = self._position
            self._set_limit()

    def _declared(self, number: int, payload: bytes) -> bool:
        return self._put(DECLARE, number, payload, time_ns() // 1000) >= 0

    def _guarded(self, work: Callable[[], object]) -> None:
        """Do something alone: now, or when a holder further down this stack is done."""
        if self._busy and self._is_mine():
            self._deferred.append(work)
            return
        self._enter()
        try:
            work()
        finally:
            self._leave()

    # -- reading from a pipe straight into the map

    def read_from(
        self, fd: int, stream: int, max_bytes: int = 65536, severity: int = OUTPUT_SEVERITY
    ) -> Optional[bytes]:
        """Read once from a pipe or terminal into the spool and return what was read.

        b"" at the end of the file, None when there is nothing now (for a descriptor that poll
        called readable there always is something). The length to be read is written first, so
        that a SIGKILL between read(2) and the commit loses nothing. What the spool refuses is
        read and returned all the same, and becomes a gap. Raises OSError of read(2) only.
        """
        length = min(_waiting(fd), max_bytes, MAX_PAYLOAD_BYTES)
        flags = 0
        if not length:
            if not select.select([fd], [], [], 0)[0]:
                return None
            length, flags = min(max_bytes, 4096), AT_MOST
        elif os.isatty(fd):
            flags = AT_MOST
        self._enter()
        try:
            return self._read_from(fd, stream, length, flags, severity)
        except BlockingIOError:
            return None
        finally:
            self._leave()

    def _read_from(self, fd: int, stream: int, length: int, flags: int, severity: int) -> bytes:
        time_us = time_ns() // 1000
        if self._dead or self._fits(length, severity) < length:
            data = _read(fd, length)
            if data and not self._dead:
                self._digest(stream, data)
                self._refuse(stream, len(data), time_us)
            return data
        start, offset = self._position, self._offsets[stream]
        intent = _pack(time_us, stream | DATA << 16 | flags << 24, length, offset)
        self._map[start + UNCOVERED_BYTES : start + HEADER_BYTES] = intent
        self._words[(start >> 2) + 1] = crc32(intent)
        begin = start + HEADER_BYTES
        count = 0
        try:
            count = _readv(fd, self._segment.bytes[begin : begin + length])
        finally:
            if not count:
                self._map[start : start + HEADER_BYTES] = bytes(HEADER_BYTES)
        if not count:
            return b""
        data = self._map[begin : begin + count]
        self._words[(start >> 2) + 1] = crc32(data, crc32(intent))
        self._position = start + aligned(HEADER_BYTES + count)
        self._offsets[stream] = offset + count
        self._words[start >> 2] = HEADER_BYTES + count
        self._digest(stream, data)
        return data

    def _digest(self, stream: int, data: bytes) -> None:
        digest = self._streams[stream].digest
        if digest is not None:
            digest.update(data)

    # -- the end

    def end(self, cause: str, detail: dict[str, Any], time_us: Optional[int] = None) -> bool:
        """Write the end of every stream; nothing is accepted afterwards.

        False where the disk has no room even for that: `abandoned` writes it later.
        """
        ended: list[bool] = []
        moment = time_ns() // 1000 if time_us is None else time_us
        self._guarded(lambda: ended.append(self._end(cause, detail, moment)))
        return ended == [True]

    def _end(self, cause: str, detail: dict[str, Any], time_us: int) -> bool:
        if self._dead:
            return False
        written = True
        for number, state in enumerate(self._streams):
            sha256 = state.digest.hexdigest() if state.digest is not None else None
            body = {"cause": cause, "sha256": sha256, "detail": detail}
            payload = json.dumps(body, separators=(",", ":"), default=str).encode()
            written = written and self._put_surely(END, number, payload, time_us)
        written = written and self._put_surely(CLOSE, NO_STREAM, b"", time_us)
        self._dead = True
        self._set_limit()
        return written

    def _put_surely(self, kind: int, stream: int, payload: bytes, time_us: int) -> bool:
        """Write a record beyond every budget; False when the disk itself is full."""
        if self._put(kind, stream, payload, time_us) >= 0:
            return True
        try:
            self._open_segment(self.directory, max(self._next_size(), 4 * len(payload) + 16384))
        except OSError:
            return False
        return self._put(kind, stream, payload, time_us) >= 0

    def close(self) -> None:
        """Give up map and lock. Without `end` before, the streams count as lost."""
        self._guarded(self._close)

    def _close(self) -> None:
        self._dead = True
        if self._lock_fd < 0:
            return
        self._set_limit()
        self._segment.used = self._position
        self._segment.close(cut=not self.forked)
        os.close(self._lock_fd)
        self._lock_fd = -1


_HOLDERS = frozenset(
    method.__code__
    for method in (
        SpoolWriter.append,
        SpoolWriter._append_contended,
        SpoolWriter._guarded,
        SpoolWriter.read_from,
    )
)

_writers: weakref.WeakSet[SpoolWriter] = weakref.WeakSet()


def _waiting(fd: int) -> int:
    """Bytes that can be read now; 0 at the end of the file, or where that cannot be told."""
    try:
        return int(struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, bytes(4)))[0])
    except OSError:
        return 0


def _read(fd: int, length: int) -> bytes:
    try:
        return os.read(fd, length)
    except OSError as error:
        if error.errno == errno.EIO:
            return b""
        raise


def _readv(fd: int, into: memoryview) -> int:
    """Read; 0 at the end, which a terminal whose other side has closed tells by EIO."""
    try:
        return os.readv(fd, [into])
    except OSError as error:
        if error.errno == errno.EIO:
            return 0
        raise
    finally:
        into.release()
