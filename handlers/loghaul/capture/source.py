"""A source: one read end, from which bytes go to a stream of the spool and to the user's output.

A cycle has four phases. Between CMD's pipe and the shared buffer lies a private pipe that guard and
pump both hold, so at every instant each byte is in exactly one place that outlives the pump:

    FILL     splice CMD's pipe -> private pipe     bytes are in one pipe or the other
    READ     private pipe -> shared buffer         still in the pipe, or all in the buffer
    SPOOL    buffer -> spool                       the stream's end tells if it was appended
    FORWARD  buffer -> the user's output           STEP tells how much of it is there (see `output`)

A new pump reads the phase, and goes on at the very byte. What waits in the output's queue is sent
between the cycles, so a slow reader holds up the spool only when the queue is full.
"""

from __future__ import annotations

import errno
import os
import select
import threading
import time
from enum import IntEnum
from typing import NamedTuple, Protocol

from loghaul.capture.board import BUFFER_BYTES, Board, Field
from loghaul.capture.output import Output, fill_of

#: A burst of small writes is met after this pause: ten times fewer system calls on both sides.
BURST_PAUSE_SECONDS = 0.001
_BURST_BYTES = BUFFER_BYTES // 4
_BURST_NS = 2_500_000


class Phase(IntEnum):
    """Where in its cycle a source is."""

    FILL = 0
    READ = 1
    SPOOL = 2
    FORWARD = 3


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
    queue_read: int  # shared by all sources that end in one output
    queue_write: int
    output: int  # the user's own descriptor: 1 or 2
    name: str  # of the stream
    path: str  # of the file it is shown in
    iostream: str


class Source:
    """Moves the bytes of one read end until its end. One thread calls `run`."""

    def __init__(
        self,
        plumbing: Plumbing,
        board: Board,
        sink: Sink,
        stream_lock: threading.Lock,
        output: Output,
    ) -> None:
        """Take stock of what a dead pump left: make all sources before one of them runs."""
        self.plumbing = plumbing
        self.output = output
        self._board = board
        self._sink = sink
        self._stream_lock = stream_lock
        self._buffer = board.buffer(plumbing.slot)
        self._last_ns = 0
        self._has_turn = False
        self._settle()
        self._mine = output.added  # what this source added lies before it

    def run(self) -> None:
        """Finish an interrupted cycle, then work until the end of the input."""
        length = self._resume()
        while length:
            length = self._cycle()
        if self._has_turn:
            self._release_turn()
        while self._is_behind():
            self.output.wait()
            self.output.send()
        self._count_lost()
        self._set(Field.EOF, 1)

    # One cycle

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
        if burst and not self._has_turn:
            time.sleep(BURST_PAUSE_SECONDS)
        plumbing = self.plumbing
        while True:
            if self._is_behind():
                self._send_until_input()
            if self.output.gone and not self._left():
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

    def _is_behind(self) -> bool:
        """Return whether the user's output has not taken all that this source gave it."""
        return self.output.sent < self._mine

    def _send_until_input(self) -> None:
        while self._is_behind():
            waits = self.output.wait(self.plumbing.read_end)
            self.output.send()
            if waits:
                break
        self._count_lost()

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
            self._board.set_end(row, self._get(Field.AT) + length)
        self._from_spooled(length)

    def _from_spooled(self, length: int) -> None:
        self._set(Field.STEP, 0)
        self._set(Field.PHASE, Phase.FORWARD)
        self._forward(length)

    def _forward(self, length: int) -> None:
        """Give the buffer to the user's output. It keeps its turn in the middle of a line."""
        if not self._has_turn:
            self.output.turn.acquire()
            self._has_turn = True
        while (done := self._get(Field.STEP) >> 1) < length:
            if not self.output.forwarding:
                self._set(Field.UNFORWARDED, self._get(Field.UNFORWARDED) + length - done)
                break
            self.output.add(self._buffer[done:length], self._step_began, self._step_done)
            if self._get(Field.STEP) >> 1 < length:
                self.output.wait()
        self._mine = self.output.added
        self._count_lost()
        self._set(Field.PHASE, Phase.FILL)
        if self._buffer[length - 1] == 10 or not self._left():
            self._release_turn()

    def _step_began(self, base: int) -> None:
        self._set(Field.BASE, base)
        self._set(Field.STEP, self._get(Field.STEP) | 1)

    def _step_done(self, count: int) -> None:
        """One store tells how far it is and that no step is under way."""
        self._set(Field.STEP, ((self._get(Field.STEP) >> 1) + count) << 1)

    def _count_lost(self) -> None:
        lost = self.output.take_lost()
        if lost:
            self._set(Field.UNFORWARDED, self._get(Field.UNFORWARDED) + lost)

    def _release_turn(self) -> None:
        self._has_turn = False
        self.output.turn.release()

    def _left(self) -> int:
        """Return how many bytes wait in CMD's pipe."""
        try:
            return fill_of(self.plumbing.read_end)
        except OSError:
            return 0

    # After the end

    def keep(self, data: bytes) -> None:
        """Take what was written to a pipe that nobody reads: the spool alone has a use for it."""
        with self._stream_lock:
            row = self.plumbing.row
            self._sink.append(row, memoryview(data), time.time_ns() // 1000)
            self._board.set_end(row, self._board.end(row) + len(data))
        self._set(Field.UNFORWARDED, self._get(Field.UNFORWARDED) + len(data))

    # After the death of another pump

    def _settle(self) -> None:
        """Find out how far a step came in which the last pump died."""
        step = self._get(Field.STEP)
        if self._get(Field.PHASE) == Phase.FORWARD and step & 1:
            moved = max(0, self.output.moved(self._get(Field.BASE)))
            self._set(Field.STEP, min((step >> 1) + moved, self._get(Field.LENGTH)) << 1)

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
        elif phase is Phase.FORWARD:
            self._forward(length)
        self._set(Field.PHASE, Phase.FILL)
        return 0 if self._get(Field.EOF) else 1

    def _resume_spool(self, phase: Phase, length: int) -> None:
        """The bytes are in the buffer; `Sink` was told where the stream ends in the spool."""
        row = self.plumbing.row
        if phase is Phase.SPOOL and self._board.end(row) >= self._get(Field.AT) + length:
            self._from_spooled(length)
        else:
            self._from_spool(length, time.time_ns() // 1000)

    def _get(self, name: Field) -> int:
        return self._board.get(self.plumbing.slot, name)

    def _set(self, name: Field, value: int) -> None:
        self._board.set(self.plumbing.slot, name, value)
