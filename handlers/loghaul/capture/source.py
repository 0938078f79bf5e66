"""A source: one read end, from which bytes go to a stream of the spool and to the user's output.

A cycle has five phases. Between CMD's pipe and the user's output lies a private pipe that guard and
pump both hold, so at every instant each byte is in exactly one place that outlives the pump:

    FILL    splice CMD's pipe -> private pipe      bytes are in one pipe or the other
    READ    private pipe -> shared buffer          still in the pipe, or all in the buffer
    SPOOL   buffer -> spool                        the stream's end tells if it was appended
    LOAD    buffer -> private pipe                 the pipe is empty, or holds all
    SEND    splice private pipe -> user's output   what is still in the pipe was not sent

A new pump reads the phase and the private pipe's fill, and goes on at the very byte. A regular file
cannot always be spliced to: there COPY replaces LOAD and SEND, and the file's position tells how
much was written. Where neither works (BARE), a cycle that was interrupted counts as copied.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import stat
import struct
import termios
import threading
import time
from enum import IntEnum
from typing import NamedTuple, Protocol

from loghaul.capture.board import BUFFER_BYTES, Board, Field

#: A burst of small writes is met after this pause: ten times fewer system calls on both sides.
BURST_PAUSE_SECONDS = 0.001
_BURST_BYTES = BUFFER_BYTES // 4
_BURST_NS = 2_500_000


class Phase(IntEnum):
    """Where in its cycle a source is."""

    FILL = 0
    READ = 1
    SPOOL = 2
    LOAD = 3
    SEND = 4
    COPY = 5
    BARE = 6


class Sink(Protocol):
    """Where a source's bytes are kept."""

    def append(self, row: int, data: memoryview, time_us: int) -> None:
        """Take the next bytes of a stream; never raises."""


class Plumbing(NamedTuple):
    """The descriptors and places of a source, the same in guard and pump."""

    slot: int
    row: int  # of the stream in the board's table of ends
    read_end: int
    private_read: int
    private_write: int
    output: int  # the user's own descriptor: 1 or 2
    name: str  # of the stream
    path: str  # of the file it is shown in
    iostream: str


def fill_of(descriptor: int) -> int:
    """Return how many bytes can be read from it now."""
    return int(struct.unpack("i", fcntl.ioctl(descriptor, termios.FIONREAD, b"\0\0\0\0"))[0])


def identity(descriptor: int) -> tuple[int, int]:
    """Return what tells two files apart: device and inode."""
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


class Source:
    """Moves the bytes of one read end until its end. One thread calls `run`."""

    def __init__(
        self,
        plumbing: Plumbing,
        board: Board,
        sink: Sink,
        stream_lock: threading.Lock,
        output_lock: threading.Lock,
    ) -> None:
        self.plumbing = plumbing
        self.reader_gone = False
        self._board = board
        self._sink = sink
        self._stream_lock = stream_lock
        self._output_lock = output_lock
        self._buffer = board.buffer(plumbing.slot)
        self._copy = stat.S_ISREG(os.fstat(plumbing.output).st_mode)
        self._sendable = not self._copy
        self._last_ns = 0
        self._forwarding = True

    def run(self) -> None:
        """Finish an interrupted cycle, then work until the end of the input."""
        length = self._resume()
        while length:
            length = self._cycle()
        if self._output_lock_held:
            self._release_output()
        self._set(Field.EOF, 1)

    # One cycle

    _output_lock_held = False

    def _cycle(self) -> int:
        length = self._fill()
        if length:
            self._set(Field.ACTIVE_NS, time.monotonic_ns())
            self._from_read(length)
        return length

    def _fill(self) -> int:
        """Wait for bytes and take them into the private pipe; 0 at the end of the input."""
        now = time.monotonic_ns()
        burst = now - self._last_ns < _BURST_NS and self._get(Field.LENGTH) < _BURST_BYTES
        if burst and not self._output_lock_held:
            time.sleep(BURST_PAUSE_SECONDS)
        plumbing = self.plumbing
        while True:
            if self.reader_gone and not self._left():
                return 0
            try:
                length = os.splice(plumbing.read_end, plumbing.private_write, BUFFER_BYTES)
            except OSError as error:
                if error.errno == errno.EIO:  # a pty whose last writer has closed it
                    return 0
                if error.errno == errno.EAGAIN:
                    select.select([plumbing.read_end], [], [])
                    continue
                length = self._take()
            self._last_ns = time.monotonic_ns()
            return length

    def _take(self) -> int:
        """Fill without splice, on kernels that cannot splice from a pty."""
        try:
            data = os.read(self.plumbing.read_end, BUFFER_BYTES)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return 0
        return os.write(self.plumbing.private_write, data) if data else 0

    def _from_read(self, length: int) -> None:
        self._set(Field.LENGTH, length)
        self._set(Field.PHASE, Phase.READ)
        time_us = time.time_ns() // 1000
        os.readv(self.plumbing.private_read, [self._buffer[:length]])
        self._from_spool(length, time_us)

    def _from_spool(self, length: int, time_us: int) -> None:
        row = self.plumbing.row
        with self._stream_lock:
            self._set(Field.AT, self._board.end(row))
            self._set(Field.PHASE, Phase.SPOOL)
            self._sink.append(row, self._buffer[:length], time_us)
            self._spooled(length)
        self._forward(length)

    def _spooled(self, length: int) -> None:
        self._board.set_end(self.plumbing.row, self._get(Field.AT) + length)
        self._set(Field.PHASE, Phase.LOAD)

    def _forward(self, length: int) -> None:
        """Copy the buffer to the user's output. It keeps the lock in the middle of a line."""
        if not self._forwarding:
            self._set(Field.PHASE, Phase.FILL)
            return
        if not self._output_lock_held:
            self._output_lock.acquire()
            self._output_lock_held = True
        try:
            self._load(length)
        except OSError as error:
            self._refused(error, length)
        self._set(Field.PHASE, Phase.FILL)
        if self._buffer[length - 1] == 10 or not self._left():
            self._release_output()

    def _release_output(self) -> None:
        self._output_lock_held = False
        self._output_lock.release()

    def _left(self) -> int:
        """Return how many bytes wait in CMD's pipe."""
        try:
            return fill_of(self.plumbing.read_end)
        except OSError:
            return 0

    def _load(self, length: int) -> None:
        if self._copy:
            self._set(Field.POSITION, os.lseek(self.plumbing.output, 0, os.SEEK_CUR))
            self._set(Field.PHASE, Phase.COPY)
            self._write(self._buffer[:length])
        elif self._sendable:
            os.write(self.plumbing.private_write, self._buffer[:length])
            self._set(Field.PHASE, Phase.SEND)
            self._send()
        else:
            self._set(Field.PHASE, Phase.BARE)
            self._write(self._buffer[:length])

    def _send(self) -> None:
        """Splice what the private pipe holds to the user's output."""
        left = fill_of(self.plumbing.private_read)
        while left:
            try:
                left -= os.splice(self.plumbing.private_read, self.plumbing.output, left)
            except BlockingIOError:
                self._wait_writable()
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                self._sendable = False
                self._set(Field.PHASE, Phase.BARE)
                self._write(memoryview(os.read(self.plumbing.private_read, left)))
                return

    def _write(self, data: memoryview) -> None:
        while data:
            try:
                data = data[os.write(self.plumbing.output, data) :]
            except BlockingIOError:
                self._wait_writable()

    def _wait_writable(self) -> None:
        """Somebody made the user's output non-blocking; wait as a blocking write would."""
        poll = select.poll()
        poll.register(self.plumbing.output, select.POLLOUT)
        poll.poll(1000)

    def _refused(self, error: OSError, length: int) -> None:
        """The user's output does not take the bytes: stop copying, or go on without these."""
        waiting = fill_of(self.plumbing.private_read)
        if waiting:
            os.read(self.plumbing.private_read, waiting)
        self._set(Field.UNFORWARDED, self._get(Field.UNFORWARDED) + (waiting or length))
        if error.errno == errno.EPIPE:
            self.reader_gone = True
        self._forwarding = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

    # After the death of another pump

    def _resume(self) -> int:
        """Finish the cycle in which the last pump died; 0 at the end of the input."""
        phase, length = Phase(self._get(Field.PHASE)), self._get(Field.LENGTH)
        waiting = fill_of(self.plumbing.private_read)
        if phase is Phase.FILL and waiting:
            self._from_read(waiting)
        elif phase is Phase.READ and waiting:
            self._from_read(length)
        elif phase in (Phase.READ, Phase.SPOOL):
            self._resume_spool(phase, length)
        elif phase is Phase.LOAD and not waiting:
            self._forward(length)
        elif phase in (Phase.LOAD, Phase.SEND):
            self._resume_send(waiting)
        elif phase is Phase.COPY:
            self._resume_copy(length)
        self._set(Field.PHASE, Phase.FILL)
        return 0 if self._get(Field.EOF) else 1

    def _resume_spool(self, phase: Phase, length: int) -> None:
        """The bytes are in the buffer; `Sink` was told where the stream ends in the spool."""
        row = self.plumbing.row
        if phase is Phase.SPOOL and self._board.end(row) >= self._get(Field.AT) + length:
            self._set(Field.PHASE, Phase.LOAD)
            self._forward(length)
        else:
            self._from_spool(length, time.time_ns() // 1000)

    def _resume_send(self, waiting: int) -> None:
        self._set(Field.PHASE, Phase.SEND)
        try:
            with self._output_lock:
                self._send()
        except OSError as error:
            self._refused(error, waiting)

    def _resume_copy(self, length: int) -> None:
        done = os.lseek(self.plumbing.output, 0, os.SEEK_CUR) - self._get(Field.POSITION)
        try:
            with self._output_lock:
                self._write(self._buffer[min(max(done, 0), length) : length])
        except OSError as error:
            self._refused(error, length)

    def _get(self, name: Field) -> int:
        return self._board.get(self.plumbing.slot, name)

    def _set(self, name: Field, value: int) -> None:
        self._board.set(self.plumbing.slot, name, value)
