"""The pump: the process that moves CMD's bytes into the spool and on to the user.

One thread per source, so that a reader of stderr that is blocked does not hold up stdout. The main
thread carries out the guard's notes, opens streams for ranks, and writes the end.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import threading
import time
from typing import Any, Optional

from loghaul import background
from loghaul.capture import control, door, terminal
from loghaul.capture.board import BUFFER_BYTES, Board, Field
from loghaul.capture.job import INFO, LOG, MAX_DEATHS, STATUS, Job
from loghaul.capture.lifecycle import STATUS_WORDS, Lifecycle
from loghaul.capture.output import Outputs
from loghaul.capture.pipes import RANK_PIPE_BYTES, hold, open_source, rest_of
from loghaul.capture.sink import NoSink, SpoolSink, open_sink
from loghaul.capture.source import Plumbing, Source

_WORKER_IDLE_SECONDS = 5.0  # one started less than this ago is still there
_FAULT = 70  # exit code of a pump that gave up: the guard starts another


class Pump:
    """One generation of the pump. Made in the guard, run in its fork."""

    def __init__(
        self,
        job: Job,
        board: Board,
        guard: socket.socket,
        listener: Optional[socket.socket],
        plumbing: list[Plumbing],
        notes: list[dict[str, Any]],
        generation: int,
        lock: int = -1,
    ) -> None:
        self._job, self._board, self._guard, self._listener = job, board, guard, listener
        self._plumbing, self._notes, self._generation = plumbing, notes, generation
        self._lock = lock
        self._guard_pid = os.getpid()
        self._guard_alive = True
        self._ended: Optional[dict[str, Any]] = None
        self._ended_at = 0.0
        self._rows = {source.name: source.row for source in plumbing}
        self._queues = {one.output: (one.queue_read, one.queue_write) for one in plumbing}
        self._outputs = Outputs()
        self._stream_locks: dict[int, threading.Lock] = {}
        self._running: dict[threading.Thread, Source] = {}

    def main(self) -> int:
        """Work until the last source has ended and the end is known; return the exit code."""
        os.setsid()
        self._close_foreign()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        self._open_sink()
        for source in [self._source(plumbing) for plumbing in self._plumbing]:
            self._start(source)
        worker_asked_at = time.monotonic()
        if self._generation == 0:
            background.start(self._job.settings)
        else:
            self.life.say("warning", f"pump {self._generation} died; pump {os.getpid()} goes on")
        for note in self._notes[: self._board.notes_done]:
            if note["kind"] == "ended":  # told to a pump that died before it could act on it
                self._ended, self._ended_at = note, time.monotonic()
        for note in self._notes[self._board.notes_done :]:
            self._carry_out(note)
        self._loop()
        self._end()
        if self._generation or time.monotonic() - worker_asked_at > _WORKER_IDLE_SECONDS:
            background.start(self._job.settings)
        return 0

    # Start

    def _close_foreign(self) -> None:
        """Let go of what the user's shell handed down: a pipe of theirs must not wait for us."""
        wanted = {1, 2, self._guard.fileno(), self._lock}
        if self._listener is not None:
            wanted.add(self._listener.fileno())
        for one in self._plumbing:
            wanted |= {one.read_end, one.private_read, one.private_write}
            wanted |= {one.queue_read, one.queue_write}
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        for name in os.listdir("/proc/self/fd"):
            if int(name) > 2 and int(name) not in wanted:
                try:
                    os.close(int(name))
                except OSError:
                    pass
        os.chdir("/")

    def _open_sink(self) -> None:
        self.sink: SpoolSink | NoSink
        self.sink, lock, problem = open_sink(
            self._job, self._board, self._plumbing, self._lock, self._missing_reason()
        )
        self.life = Lifecycle(self._job.settings.node, (LOG, INFO, STATUS), self._append)
        if lock is not None and self._lock < 0:
            # It waits there unread: so the guard holds the lock too, if this process dies.
            control.send(self._guard, {"lock": True}, [lock])
        if problem:
            control.send(self._guard, {"problem": problem})

    def _missing_reason(self) -> str:
        if self._generation < MAX_DEATHS:
            return "could not be kept when a pump was replaced"
        return f"only copied: the pump had died {self._generation} times"

    def _append(self, row: int, data: bytes, time_us: int) -> None:
        self.sink.append(row, data, time_us)
        self._board.set_end(row, self._board.end(row) + len(data))

    def _source(self, plumbing: Plumbing) -> Source:
        output = self._outputs.of(plumbing.output, (plumbing.queue_read, plumbing.queue_write))
        stream_lock = self._stream_locks.setdefault(plumbing.row, threading.Lock())
        return Source(plumbing, self._board, self.sink, stream_lock, output)

    def _start(self, source: Source) -> None:
        thread = threading.Thread(target=self._work, args=(source,), daemon=True)
        self._running[thread] = source
        thread.start()

    def _work(self, source: Source) -> None:
        try:
            source.run()
            if source.output.gone:
                self._shut(source)
            os.write(self._wake_write, b"-")
        except BaseException as error:  # noqa: BLE001 - whatever it is, a new pump goes on
            try:
                name = source.plumbing.name
                self.life.say("error", f"pump failed at {name}: {type(error).__name__}: {error}")
            finally:
                os._exit(_FAULT)

    # Work

    def _loop(self) -> None:
        poll = select.poll()
        poll.register(self._guard, select.POLLIN)
        poll.register(self._wake_read, select.POLLIN)
        if self._listener is not None:
            poll.register(self._listener, select.POLLIN)
        while self._running or (self._guard_alive and self._ended is None):
            timeout = self._seconds_left()
            for descriptor, _ in poll.poll(None if timeout is None else timeout * 1000 + 1):
                if descriptor == self._wake_read:
                    os.read(self._wake_read, 4096)
                    self._collect()
                elif descriptor == self._guard.fileno():
                    self._hear(poll)
                else:
                    self._open_door()
            if self._seconds_left() == 0:
                self._end()

    def _seconds_left(self) -> Optional[float]:
        """Return how long the run still waits for its descendants; None: no bound now."""
        if self._ended is None or isinstance(self.sink, NoSink) or self.sink.ended:
            return None
        return max(0.0, self._ended_at + self._job.drain_seconds - time.monotonic())

    def _collect(self) -> None:
        """Take leave of sources that have ended."""
        for thread, source in list(self._running.items()):
            if not self._board.get(source.plumbing.slot, Field.EOF):
                continue
            thread.join()
            del self._running[thread]
            lost = self._board.get(source.plumbing.slot, Field.UNFORWARDED)
            if lost:
                self.life.say("warning", f"{lost} bytes of {source.plumbing.name} were kept, but "
                              "the reader of our output did not take them")  # fmt: skip

    def _shut(self, source: Source) -> None:
        """Nobody reads our output any more: CMD learns it as it would without us.

        What CMD wrote until guard and pump had both closed the pipe was accepted, and is kept.
        """
        read_end = source.plumbing.read_end
        held = hold(read_end)
        if held is None:
            for data in terminal.rest_of(read_end, BUFFER_BYTES):
                source.keep(data)
        os.close(read_end)
        control.send(self._guard, {"gone": source.plumbing.slot})
        if self._guard_alive:
            os.kill(self._guard_pid, signal.SIGCHLD)
        if held is not None:
            for data in rest_of(held):
                source.keep(data)
            os.close(held)

    def _hear(self, poll: select.poll) -> None:
        packet = control.receive(self._guard)
        if packet is None:
            self._guard_alive = False
            poll.unregister(self._guard)
            if self._ended is None:
                self.life.say("error", "the guard was killed; its command goes on unwatched")
        elif packet[0].get("number") == self._board.notes_done:
            self._carry_out(packet[0])

    def _carry_out(self, note: dict[str, Any]) -> None:
        kind, time_us = note["kind"], note["time_us"]
        if kind == "say":
            self.life.say(note["level"], note["text"], time_us)
        elif kind == "started":
            self.life.process(self._job.process_name, note["pid"], self._job.driver_log, time_us)
        elif kind == "ended":
            self._ended, self._ended_at = note, time.monotonic()
        self._board.notes_done += 1

    # Ranks

    def _open_door(self) -> None:
        """Give a rank that asks streams of its own."""
        assert self._listener is not None
        caller = door.accept(self._listener)
        if caller is None:
            return
        with caller:
            request = door.request_of(caller)
            if request is None or self._ended is not None:
                return
            theirs = []
            try:
                for name in request.streams:
                    theirs.append(self._open_rank(request, name))
                door.answer(caller, theirs)
            except (OSError, IndexError) as error:
                self.life.say("warning", f"no streams for rank {request.rank}: {error}")
            finally:
                for descriptor in theirs:
                    os.close(descriptor)

    def _open_rank(self, request: door.Request, iostream: str) -> int:
        name, path = f"{iostream}-{request.rank}", request.path
        slot = self._board.sources
        self._board.buffer(slot)[0]  # IndexError: no slot is left
        row = self._rows.setdefault(name, max(*self._rows.values(), STATUS) + 1)
        output = 1 if iostream == "stdout" else 2
        ends = (slot, row, output, self._queues[output], name, path, self._job.pty)
        plumbing, theirs = open_source(*ends, pipe_bytes=RANK_PIPE_BYTES)
        descriptors = [plumbing.read_end, plumbing.private_read, plumbing.private_write]
        about = {"source": list(plumbing)}
        self._board.sources = slot + 1
        control.send(self._guard, about, descriptors)
        if isinstance(self.sink, SpoolSink):
            self.sink.declare_rank(plumbing, request.rank, request.local_rank)
        if iostream == request.streams[0]:
            now_us = time.time_ns() // 1000
            self.life.process(f"rank_{request.rank}", request.pid, path, now_us)
        self._start(self._source(plumbing))
        return theirs

    # End

    def _end(self) -> None:
        if isinstance(self.sink, NoSink) or self.sink.ended:
            return
        last_us = self._last_byte_us()
        if self._ended is None:
            lost = {"status": "lost", "error.message": "the guard was killed"}
            self._finish("lost", lost, time.time_ns() // 1000)
            return
        if self._running:
            held = ", ".join(sorted(source.plumbing.name for source in self._running.values()))
            self.life.say("warning", f"{held} still held by other processes "
                          f"{self._job.drain_seconds:g} s after the command ended: "
                          "what they write from now on is not part of the run")  # fmt: skip
        detail = self._ended["detail"]
        self._finish(self._ended["cause"], detail, max(self._ended["time_us"], last_us))

    def _finish(self, cause: str, detail: dict[str, Any], time_us: int) -> None:
        assert isinstance(self.sink, SpoolSink)
        status = STATUS_WORDS[detail["status"]]
        self.life.status(self._job.process_name, status, time_us)
        self.life.status("*", status, time_us)
        self.life.say("info", f"run ended: {json.dumps(detail)}", time_us)
        self.sink.end(cause, detail, time_us)

    def _last_byte_us(self) -> int:
        slots = range(self._board.sources)
        active_ns = max((self._board.get(slot, Field.ACTIVE_NS) for slot in slots), default=0)
        return (time.time_ns() - (time.monotonic_ns() - active_ns)) // 1000 if active_ns else 0
