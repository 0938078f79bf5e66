"""The user's own stdout or stderr, and the queue of what it has not taken yet.

The queue is a pipe that guard and pumps hold, filled with write(2), which packs small writes, and
emptied with splice(2): a byte is in it or was sent, at every instant, and it outlives a pump. So
capture runs ahead of a slow reader by as much as the queue holds, and CMD is held up later than it
would be without us. To a regular file bytes are written at once: its position tells how much was.

A step (`add`) is noted before and after. Of one that was interrupted `moved` tells how far it came,
as long as it is asked before anything else is sent: make all sources, then start their threads.
Where splice(2) does not work (character devices of old kernels) bytes are read and written; there
a SIGKILL may cost the user's output, never the spool, one read.
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
from typing import Callable

#: The most that waits for a reader; for a terminal less, or Ctrl-C would seem to do nothing.
QUEUE_BYTES = 1024 * 1024
TERMINAL_QUEUE_BYTES = 64 * 1024
#: A terminal that is ready may still take less than this without waiting, rarely.
_TERMINAL_STEP_BYTES = 2048
_READ_BYTES = 4096
#: After one of these a later write may work again.
_PASSING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def fill_of(descriptor: int) -> int:
    """Return how many bytes can be read from it now."""
    return int(struct.unpack("i", fcntl.ioctl(descriptor, termios.FIONREAD, b"\0\0\0\0"))[0])


def identity(descriptor: int) -> tuple[int, int]:
    """Return what tells two files apart: device and inode."""
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


class Output:
    """Takes bytes for the user in order; for the threads of all sources that end there.

    turn        held by the source that is in the middle of a line
    forwarding  whether it takes bytes at all; gone: its reader went away
    added, sent bytes that were put into the queue, and of these those that left it
    """

    def __init__(
        self, descriptor: int, queue: tuple[int, int], turn: threading.Lock | None = None
    ) -> None:
        mode = os.fstat(descriptor).st_mode
        self.descriptor = descriptor
        self.turn = turn or threading.Lock()
        self.forwarding, self.gone = True, False
        self._is_file = stat.S_ISREG(mode)
        self._asks = not stat.S_ISFIFO(mode)
        self._step_bytes = _TERMINAL_STEP_BYTES if os.isatty(descriptor) else QUEUE_BYTES
        self._splices = True
        self._read_end, self._write_end = queue
        os.set_blocking(self._write_end, False)
        self._alone = threading.Lock()
        self._lost = 0
        self.added, self.sent = fill_of(self._read_end), 0

    def moved(self, base: int) -> int:
        """Return how many bytes an interrupted step that began at `base` had moved."""
        return self._place() - base

    def add(
        self, data: memoryview, began: Callable[[int], None], done: Callable[[int], None]
    ) -> None:
        """Take what there is room for and send what can be sent; never waits for the reader.

        began   is told the step's base right before it
        done    is told how many bytes of data were dealt with
        """
        with self._alone:
            began(self._place() if self._is_file else self.added - self.sent)
            try:
                count = os.write(self.descriptor if self._is_file else self._write_end, data)
                self.added += 0 if self._is_file else count
            except BlockingIOError:
                count = 0
            except OSError as error:
                count = len(data)
                self._refused(error, count)
            done(count)
            self._send()

    def send(self) -> None:
        """Send what can be sent now."""
        with self._alone:
            self._send()

    def wait(self, also: int = -1) -> bool:
        """Wait until the reader takes bytes, or `also` can be read; return whether that can."""
        poll = select.poll()
        poll.register(self.descriptor, select.POLLOUT)
        if also >= 0:
            poll.register(also, select.POLLIN)
        return any(descriptor == also for descriptor, _ in poll.poll())

    def take_lost(self) -> int:
        """Return how many bytes the reader did not take since this was last asked."""
        with self._alone:
            lost, self._lost = self._lost, 0
        return lost

    def _place(self) -> int:
        if self._is_file:
            return os.lseek(self.descriptor, 0, os.SEEK_CUR)
        return fill_of(self._read_end)

    def _send(self) -> None:
        while self.sent < self.added:
            try:
                if self._asks and not self._is_ready():
                    return
                self.sent += self._move(min(self._step_bytes, self.added - self.sent))
            except BlockingIOError:
                return
            except OSError as error:
                self._refused(error, 0)

    def _is_ready(self) -> bool:
        poll = select.poll()
        poll.register(self.descriptor, select.POLLOUT)
        return bool(poll.poll(0))

    def _move(self, count: int) -> int:
        if self._splices:
            try:
                flags = os.SPLICE_F_NONBLOCK
                return os.splice(self._read_end, self.descriptor, count, flags=flags)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                self._splices = False
        data = memoryview(os.read(self._read_end, min(count, _READ_BYTES)))
        moved = len(data)
        while data:
            try:
                data = data[os.write(self.descriptor, data) :]
            except BlockingIOError:
                self.wait()
            except OSError:
                self._lost += len(data)  # they are in the queue no more
                raise
        return moved

    def _refused(self, error: OSError, length: int) -> None:
        """The output does not take bytes: stop copying, or go on without these."""
        waiting = fill_of(self._read_end)
        if waiting:
            os.read(self._read_end, waiting)
        self.sent = self.added
        self._lost += waiting + length
        self.gone = self.gone or error.errno == errno.EPIPE
        self.forwarding = error.errno in _PASSING


class Outputs:
    """The outputs of a process, each made once, whoever of its sources asks first."""

    def __init__(self) -> None:
        self._turns: dict[tuple[int, int], threading.Lock] = {}
        self._made: dict[tuple[int, int, int], Output] = {}

    def of(self, descriptor: int, queue: tuple[int, int]) -> Output:
        """Return the output of a descriptor. Two of one file share turns, each with its place."""
        place = identity(descriptor)
        turn = self._turns.setdefault(place, threading.Lock())
        is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
        key = (*place, descriptor if is_file else -1)
        if key not in self._made:
            self._made[key] = Output(descriptor, queue, turn)
        return self._made[key]
