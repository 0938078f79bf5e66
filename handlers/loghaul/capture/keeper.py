"""The keeper: the guard's care for the pump. Starts one, another where it died, and copies alone
where that is hopeless."""

from __future__ import annotations

import os
import socket
import threading
import time
from typing import Any, NoReturn, Optional

from loghaul.capture import control
from loghaul.capture.board import Board, Field
from loghaul.capture.job import MAX_DEATHS, QUIET_SECONDS, Job
from loghaul.capture.output import Outputs, fill_of
from loghaul.capture.pump import Pump
from loghaul.capture.sink import NoSink
from loghaul.capture.source import Phase, Plumbing, Source


class Keeper:
    """Holds what pumps share: board, plumbing, and the notes that the guard has for them.

    pid         of the pump, 0 when there is none
    problem     why not all was kept, "" when it was
    """

    def __init__(
        self,
        job: Job,
        board: Board,
        plumbing: list[Plumbing],
        listener: Optional[socket.socket],
    ) -> None:
        self.plumbing = plumbing
        self.pid = 0
        self.problem = ""
        self._job, self._board, self._listener = job, board, listener
        self._notes: list[dict[str, Any]] = []
        self._control: Optional[socket.socket] = None
        self._held: list[int] = []
        self._deaths = 0
        self._copiers: list[threading.Thread] = []

    def start(self, foreign: tuple[int, ...] = ()) -> None:
        """Fork a pump, which closes `foreign`."""
        ours, theirs = control.pair()
        open_slots = [p for p in self.plumbing if not self._board.get(p.slot, Field.EOF)]
        arguments = (self._job, self._board, theirs, self._listener, open_slots, self._notes)
        pump = Pump(*arguments, generation=self._deaths, lock=self._lock())
        try:
            self.pid = os.fork()
        except OSError as error:
            self.problem = f"no process for the pump: {error.strerror}"
            self._deaths = MAX_DEATHS
            self._copy_alone()
            return
        if self.pid == 0:
            ours.close()
            for descriptor in foreign:
                os.close(descriptor)
            _be(pump)
        theirs.close()
        self._control = ours

    def ended(self, status: int) -> None:
        """Take note of the pump's end: start another one where it died."""
        self.collect()
        self.pid = 0
        if self._control is not None:
            self._control.close()
            self._control = None
        if status == 0:
            return
        self._deaths += 1
        if self._deaths < MAX_DEATHS:
            self.start()
        else:
            self.problem = f"the pump died {self._deaths} times; output was only copied from then"
            self._copy_alone()

    def collect(self) -> None:
        """Take in what the pump has told: new sources, shut ones, the lock to hold, a problem."""
        while self._control is not None:
            packet = control.receive(self._control)
            if packet is None or not packet[0]:
                return
            about, descriptors = packet
            if "source" in about:
                ours, sending, taking = descriptors
                found = Plumbing(*about["source"])
                found = found._replace(read_end=ours, private_read=sending, private_write=taking)
                self.plumbing.append(found)
            elif "gone" in about:
                self._shut(about["gone"])
            else:
                self._held += descriptors
                self.problem = about.get("problem", self.problem)

    def note(self, note: dict[str, Any]) -> None:
        """Tell the pump; a later pump finds the note in its copy of this process."""
        note["time_us"] = time.time_ns() // 1000
        self._notes.append(note)
        if self._control is not None:
            control.send(self._control, {**note, "number": len(self._notes) - 1})

    def say(self, level: str, text: str) -> None:
        """Write a line of the execution log."""
        self.note({"kind": "say", "level": level, "text": text})

    def is_busy(self, ended_ns: int) -> bool:
        """Return whether output is on its way, or was a moment ago."""
        working = any(thread.is_alive() for thread in self._copiers)
        if not (self.pid or working):
            return False
        slots = range(self._board.sources)
        if all(self._board.get(slot, Field.EOF) for slot in slots):
            return bool(self.pid)
        if self.is_blocked():
            return True
        last_ns = max(self._board.get(slot, Field.ACTIVE_NS) for slot in slots)
        return time.monotonic_ns() - max(last_ns, ended_ns) < QUIET_SECONDS * 1e9

    def is_blocked(self) -> bool:
        """Return whether bytes wait to be copied."""
        self.collect()
        for one in self.plumbing:
            if self._board.get(one.slot, Field.EOF):
                continue
            if self._board.get(one.slot, Field.PHASE) != Phase.FILL:
                return True
            try:
                if fill_of(one.queue_read) or fill_of(one.read_end):
                    return True
            except OSError:
                pass
        return False

    def finish(self, note: dict[str, Any]) -> None:
        """Where there is no pump any more, let a last child write the end that is known here.

        It is a process of its own, because it may die of the same.
        """
        if not self._copiers:
            return
        self._notes[:] = [*self._notes[: self._board.notes_done], note]
        self.say("error", self.problem)
        for one in self.plumbing:
            self._board.set(one.slot, Field.EOF, 1)
        self._copiers = []
        ours, theirs = control.pair()
        lock = self._lock()
        pump = Pump(self._job, self._board, theirs, None, [], self._notes, MAX_DEATHS, lock)
        child = os.fork()
        if child == 0:
            ours.close()
            _be(pump)
        theirs.close()
        os.waitpid(child, 0)

    def _lock(self) -> int:
        return self._held[-1] if self._held else -1

    def _shut(self, slot: int) -> None:
        for one in self.plumbing:
            if one.slot == slot:
                os.close(one.read_end)
        self.plumbing[:] = [one for one in self.plumbing if one.slot != slot]

    def _copy_alone(self) -> None:
        """Copy to the terminal in this process; what is copied so is a gap."""
        locks: dict[int, threading.Lock] = {}
        outputs = Outputs()
        sources = []
        for one in self.plumbing:
            if self._board.get(one.slot, Field.EOF):
                continue
            lock = locks.setdefault(one.row, threading.Lock())
            output = outputs.of(one.output, (one.queue_read, one.queue_write))
            sources.append(Source(one, self._board, NoSink(), lock, output))
        for source in sources:
            self._copiers.append(threading.Thread(target=self._copy, args=(source,), daemon=True))
            self._copiers[-1].start()

    def _copy(self, source: Source) -> None:
        source.run()
        if source.output.gone:
            os.close(source.plumbing.read_end)


def _be(pump: Pump) -> NoReturn:
    """Be the pump, in the fork."""
    code = 70
    try:
        code = pump.main()
    except BaseException as error:  # noqa: BLE001 - the guard starts another one
        from loghaul import health

        health.note("pump failed", error)
    finally:
        os._exit(code)
