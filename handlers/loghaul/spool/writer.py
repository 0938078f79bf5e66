"""A writer of the spool: its directory, its streams, its end, and what a fork does to it.

`SpoolWriter` is made before the first byte and ended after the last one. Its constructor raises
SpoolError; after that only `stream` (too many) and `read_from` (read(2) itself) can raise.
"""

from __future__ import annotations

import json
import os
import threading
import time
from functools import partial
from pathlib import Path
from time import time_ns
from typing import Any, Optional
from zlib import crc32

from loghaul.errors import SpoolError
from loghaul.spool import forks, lock, pipe
from loghaul.spool.appender import HOLDERS, Appender
from loghaul.spool.budget import Limits
from loghaul.spool.declared import Declared
from loghaul.spool.facts import WriterFacts, read_facts, write_facts
from loghaul.spool.format import (
    AT_MOST,
    CLOSE,
    COVERED,
    DATA,
    DECLARE,
    END,
    HEADER_BYTES,
    MAX_PAYLOAD_BYTES,
    NO_STREAM,
    UNCOVERED_BYTES,
    aligned,
)
from loghaul.spool.row import StreamState
from loghaul.spool.survey import survey
from loghaul.spool.tree import remove_tree

DEFAULT_LIMITS = Limits()
#: Severity of captured output: it is refused last.
OUTPUT_SEVERITY = 40
#: A fork waits at most this long for a thread that is in the middle of a record.
FORK_PATIENCE_SECONDS = 1.0

_pack = COVERED.pack


class SpoolWriter(Appender):
    """One process's directory: a growing row of segments that only it writes to.

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
        """Create root/<id>. Raises SpoolError when that is not possible (space, permissions),
        ValueError for a `writer` that is not 32 hex digits.
        """
        identity = bytes.fromhex(writer).hex() if writer else os.urandom(16).hex()
        if len(identity) != 32:
            raise ValueError(f"{writer!r} are not 32 hex digits")
        self._begin(identity, Path(root) / identity, limits)
        self.started = time_ns() // 1000
        try:
            self._create(facts)
        except OSError as error:
            raise SpoolError(
                f"cannot create the spool {self.directory}: {error.strerror or error}; "
                "records are not kept until this is mended"
            ) from error
        forks.register(self)

    def _begin(self, identity: str, directory: Path, limits: Limits) -> None:
        super().__init__(identity, directory, limits)
        self.forked = False
        self._numbers: dict[str, int] = {}
        self._keep = self._handed_over = self._resting = False
        self._lock_fd = -1

    def _create(self, facts: dict[str, Any]) -> None:
        """Make the directory under a dotted name: nobody sees it without lock and facts."""
        self.directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.directory.exists():
            raise FileExistsError(0, "a writer of this id exists")
        making = self.directory.with_name(f".{self.id}")
        if making.exists():
            # Of a process that was to be this very writer, and was killed before it was one.
            remove_tree(making)
        making.mkdir(mode=0o700)
        try:
            self._lock_fd = lock.create(making)
            write_facts(making, WriterFacts(self.id, self.started, facts))
            self._open_any_segment(making)
            making.rename(self.directory)
            self._segment.move(self.directory)
        except BaseException:
            remove_tree(making)
            if self._lock_fd >= 0:
                os.close(self._lock_fd)
            raise

    @classmethod
    def reopen(cls, directory: Path, *, limits: Limits = DEFAULT_LIMITS) -> SpoolWriter:
        """Go on as a writer whose process died, in a segment of its own.

        The lock must be free or held by a relative: a writer of this process that was kept
        across the fork of the dead one. Offsets go on behind the last whole record; digests are
        made again from what is there, or given up where that is no longer everything. Raises
        SpoolError when another process holds the lock or the disk is full.
        """
        directory = Path(directory)
        facts = read_facts(directory)
        self = cls.__new__(cls)
        self._begin(facts.id, directory, limits)
        self.started = facts.started
        try:
            held = forks.inherited_lock(directory)
            held = lock.take(directory) if held is None else held
            if held is None:
                raise SpoolError(f"{directory} is written by another process")
            self._lock_fd = held
            self._go_on()
        except OSError as error:
            self._unlock()
            raise SpoolError(
                f"cannot reopen the spool {directory}: {error.strerror or error}"
            ) from error
        forks.register(self)
        return self

    def _go_on(self) -> None:
        found = survey(self.directory, digests=True)
        if found.ended:
            self._unlock()
            raise SpoolError(f"{self.directory} has ended: nothing can follow")
        for number, declared in enumerate(found.streams):
            if number != declared.number:
                self._unlock()
                raise SpoolError(f"{self.directory} is damaged: stream {number} is not declared")
            state = StreamState(declared, False)
            state.digest = found.digests.get(number)
            self._digesting = self._digesting or state.digest is not None
            self._numbers[declared.name] = number
            self._streams.append(state)
            self._offsets.append(found.ends[number])
        self._number = found.segment
        self._open_any_segment(self.directory)

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
        declared = Declared(number, name, kind, path, iostream, facts, digest)
        self._offsets.append(0)
        self._streams.append(StreamState(declared, digest))
        self._numbers[name] = number
        self._guarded(partial(self._declare, number, digest))
        return number

    def length(self, stream: int) -> int:
        """Return where a stream ends now: its bytes and its gaps."""
        return self._offsets[stream]

    def skip(self, stream: int, length: int, reason: str) -> None:
        """Leave out bytes that never come: they are a gap, and the stream has no digest then."""
        self._guarded(partial(self._skip, stream, length, reason, time_ns() // 1000))

    def _skip(self, stream: int, length: int, reason: str, time_us: int) -> None:
        if self._dead or length <= 0:
            return
        self._streams[stream].digest = None
        before, self._reason = self._reason, reason
        try:
            self._refuse(stream, length, time_us)
        finally:
            self._reason = before

    def _declare(self, number: int, digest: bool) -> None:
        if digest:
            self._digesting = True
            self._set_limit()
        payload = self._streams[number].declared.encode()
        if self._dead or self._put_twice(number, payload):
            return
        # A new segment begins with all declarations, this one among them. Until there is one,
        # nothing is taken: a reader could not place it.
        if not self._rotate(OUTPUT_SEVERITY):
            self._hard_limit = self._position
            self._set_limit()

    def _put_twice(self, number: int, payload: bytes) -> bool:
        """Declare in two records: the first segment must not hang on a single one."""
        room = self._hard_limit - self._position
        if room < 2 * aligned(HEADER_BYTES + len(payload)):
            return False
        now = time_ns() // 1000
        self._put(DECLARE, number, payload, now)
        return self._put(DECLARE, number, payload, now) >= 0

    # -- reading from a pipe straight into the map

    def read_from(
        self, fd: int, stream: int, max_bytes: int = 65536, severity: int = OUTPUT_SEVERITY
    ) -> Optional[bytes]:
        """Read once from a pipe or terminal into the spool and return what was read.

        b"" at the end of the file, None when there is nothing now. The length to be read is
        written first, so that a SIGKILL between read(2) and the commit loses nothing. What the
        spool refuses is read and returned all the same, and becomes a gap. Raises OSError of
        read(2) only.
        """
        length = min(pipe.waiting(fd), max_bytes, MAX_PAYLOAD_BYTES)
        flags = AT_MOST if not length or os.isatty(fd) else 0
        if not length and not pipe.is_readable(fd):
            return None
        self._enter()
        try:
            return self._read_from(fd, stream, length or min(max_bytes, 4096), flags, severity)
        except BlockingIOError:
            return None
        finally:
            self._leave()

    def _read_from(self, fd: int, stream: int, length: int, flags: int, severity: int) -> bytes:
        time_us = time_ns() // 1000
        fitting = 0 if self._dead else self._fits(length, severity)
        if fitting:
            data = self._read_mapped(fd, stream, min(length, fitting), flags, time_us)
        else:
            data = pipe.read(fd, length)
            if data and not self._dead:
                self._refuse(stream, len(data), time_us)
        digest = self._streams[stream].digest
        if digest is not None:
            digest.update(data)
        return data

    def _read_mapped(self, fd: int, stream: int, length: int, flags: int, time_us: int) -> bytes:
        start, offset = self._position, self._offsets[stream]
        intent = _pack(time_us, stream | DATA << 16 | flags << 24, length, offset)
        self._map[start + UNCOVERED_BYTES : start + HEADER_BYTES] = intent
        self._words[(start >> 2) + 1] = crc32(intent)
        begin, count = start + HEADER_BYTES, 0
        try:
            count = pipe.read_into(fd, self._segment.bytes[begin : begin + length])
        finally:
            if not count:
                self._map[start:begin] = bytes(HEADER_BYTES)
        if not count:
            return b""
        data = self._map[begin : begin + count]
        self._words[(start >> 2) + 1] = crc32(data, crc32(intent))
        self._position = start + aligned(HEADER_BYTES + count)
        self._offsets[stream] = offset + count
        self._words[start >> 2] = HEADER_BYTES + count
        return data

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
        self._die()
        return written

    def _put_surely(self, kind: int, stream: int, payload: bytes, time_us: int) -> bool:
        """Write a record beyond every budget; False when the disk itself is full."""
        if self._put(kind, stream, payload, time_us) >= 0:
            return True
        try:
            self._open_any_segment(self.directory, len(payload))
        except OSError:
            return False
        return self._put(kind, stream, payload, time_us) >= 0

    def _die(self) -> None:
        self._dead = True
        self._set_limit()

    def close(self) -> None:
        """Give up map and lock. Without `end` before, the streams count as lost."""
        self._guarded(self._close)

    def _close(self) -> None:
        self._die()
        if self._lock_fd < 0:
            return
        self._segment.used = self._position
        self._segment.close(cut=not (self.forked or self._handed_over))
        self._unlock()

    def _unlock(self) -> None:
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    # -- forks

    def keep_after_fork(self) -> None:
        """Let the child of the next fork go on as this writer, in this process's place.

        This process then writes nothing more, but keeps holding the lock: when the child has
        died, `reopen` in any further child (or here) goes on. Call it right before os.fork().
        """
        self._keep = True

    def lock_descriptor(self) -> int:
        """Return the descriptor that holds the lock, -1 without one."""
        return self._lock_fd

    def before_fork(self) -> None:
        """Wait (bounded) until no other thread is in the middle of a record."""
        deadline = time.monotonic() + FORK_PATIENCE_SECONDS
        while self._busy and time.monotonic() < deadline and not self._is_mine(2):
            time.sleep(0.0001)
        self._resting = not self._busy
        if self._resting:
            self._enter()

    def after_fork_in_parent(self) -> None:
        """Go on, or step back where the child goes on."""
        if self._keep:
            self._keep, self._handed_over = False, True
            self._die()
        if self._resting:
            self._resting = False
            self._leave()

    def after_fork_in_child(self) -> None:
        """Be dead, or go on in the parent's place."""
        self._mutex = threading.RLock()
        self._busy = self._resting = False
        if self._keep:
            self._keep = False
            return
        self.forked = True
        self._deferred.clear()
        self._die()
        if not self._handed_over:
            self._unlock()


HOLDERS[SpoolWriter.read_from.__code__] = "self"
