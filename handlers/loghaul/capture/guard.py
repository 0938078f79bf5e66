"""The guard: the process the user started. It is CMD's parent, and stands for it to the outside."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from typing import Any, NoReturn, Optional

from loghaul.capture import control, door, signals, terminal
from loghaul.capture.board import Board, Field
from loghaul.capture.command import CommandError, spawn
from loghaul.capture.facts import launch_facts
from loghaul.capture.job import MAX_DEATHS, QUIET_SECONDS, STDERR, STDOUT, Job
from loghaul.capture.pipes import open_source
from loghaul.capture.pump import Pump
from loghaul.capture.ranks import place_of
from loghaul.capture.sink import NoSink
from loghaul.capture.source import Phase, Plumbing, Source, fill_of

_LOOK_SECONDS = 0.05


def run(job: Job) -> int:
    """Run the job's command as a run, and return its exit code (128 + n for a signal).

    Whatever goes wrong with the capture itself, the command runs.
    """
    closed = _reserve()
    mask = signals.block()
    try:
        guard = Guard(job, closed, mask)
    except OSError as error:
        _run_uncaptured(job, closed, mask, error)
    return guard.main()


def _reserve() -> list[int]:
    """Fill 0, 1 and 2 where the user had closed them, so that no pipe of ours gets the number."""
    closed = []
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            closed.append(descriptor)
            os.open(os.devnull, os.O_RDWR)
    return closed


def _run_uncaptured(
    job: Job, closed: list[int], mask: set[signal.Signals], error: OSError
) -> NoReturn:
    """There are not even pipes: become the command, which is what the user wants most."""
    from loghaul import health

    health.note("capture could not start", error)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    for descriptor in closed:
        os.close(descriptor)
    environment = job.environment(os.environ, "")
    try:
        os.execvpe(job.command[0], list(job.command), environment)
    except OSError as failure:
        os.write(2, f"loghaul: {job.command[0]!r} cannot be run: {failure.strerror}\n".encode())
        os._exit(127 if isinstance(failure, FileNotFoundError) else 126)


class Guard:
    """Starts CMD and the pump, passes on signals, waits, and tells how it ended."""

    def __init__(self, job: Job, closed: list[int], mask: set[signal.Signals]) -> None:
        """Open pipes and board. Raises OSError when there are no descriptors left."""
        self._job, self._closed, self._mask = job, closed, mask
        self._board = Board()
        self._plumbing: list[Plumbing] = []
        self._theirs: dict[int, int] = {}
        for row, output, name in ((STDOUT, 1, "stdout"), (STDERR, 2, "stderr")):
            one, theirs = open_source(row, row, output, name, job.driver_log, job.pty)
            self._plumbing.append(one)
            self._theirs[output] = theirs
        self._board.sources = len(self._plumbing)
        self._listener = self._listen()
        self._notes: list[dict[str, Any]] = []
        self._control: Optional[socket.socket] = None
        self._held: list[int] = []
        self._pump = 0
        self._deaths = 0
        self._command = 0
        self._status: Optional[int] = None
        self._canceled = False
        self._impatient = False
        self._problem = ""
        self._copiers: list[threading.Thread] = []

    def main(self) -> int:
        """Run CMD to its end and return its exit code."""
        self._tell(f"run {self._job.settings.run_id}")
        self._start_pump()
        for level, text in launch_facts(self._job, self._plumbing):
            self._say(level, text)
        try:
            self._start_command()
        except CommandError as error:
            return self._not_started(error)
        while self._status is None:
            self._handle(signals.wait())
        return self._finish()

    # Start

    def _listen(self) -> Optional[socket.socket]:
        try:
            return door.listen(self._job.writer)
        except OSError:
            return None

    def _ranks_address(self) -> str:
        if self._listener is None:
            return ""
        places = [place_of(number, theirs) for number, theirs in self._theirs.items()]
        return " ".join([door.address(self._job.writer)[1:], *places])

    def _start_command(self) -> None:
        environment = self._job.environment(os.environ, self._ranks_address())
        # CMD's outputs are ours also where the user had closed them: there they are only kept.
        closed = [descriptor for descriptor in self._closed if descriptor == 0]
        outputs = {number: theirs for number, theirs in self._theirs.items()}
        try:
            self._command = spawn(self._job.command, environment, outputs, closed, self._mask)
        finally:
            self._close_theirs()
        self._note({"kind": "started", "pid": self._command})
        self._say("info", f"started pid {self._command}")

    def _close_theirs(self) -> None:
        for descriptor in self._theirs.values():
            os.close(descriptor)
        self._theirs = {}

    def _not_started(self, error: CommandError) -> int:
        os.write(2, f"loghaul: {error}\n".encode("utf-8", "backslashreplace"))
        self._say("error", str(error))
        detail = {
            "exit_code": error.exit_code,
            "status": "failed",
            "error.type": "CommandError",
            "error.message": str(error),
        }
        self._wait_for_pump({"kind": "ended", "cause": "exit", "detail": detail})
        return error.exit_code

    # The pump

    def _start_pump(self) -> None:
        ours, theirs = control.pair()
        open_slots = [p for p in self._plumbing if not self._board.get(p.slot, Field.EOF)]
        arguments = (self._job, self._board, theirs, self._listener, open_slots, self._notes)
        pump = Pump(*arguments, generation=self._deaths, lock=self._lock())
        try:
            self._pump = os.fork()
        except OSError as error:
            self._problem = f"no process for the pump: {error.strerror}"
            self._deaths = MAX_DEATHS
            self._copy_alone()
            return
        if self._pump == 0:
            ours.close()
            self._close_theirs()
            _be(pump)
        theirs.close()
        self._control = ours

    def _lock(self) -> int:
        return self._held[-1] if self._held else -1

    def _pump_ended(self, status: int) -> None:
        """Start another one where it died, and go on alone where that is hopeless."""
        self._collect()
        self._pump = 0
        if self._control is not None:
            self._control.close()
            self._control = None
        if status == 0:
            return
        self._deaths += 1
        if self._deaths < MAX_DEATHS:
            self._start_pump()
        else:
            self._problem = f"the pump died {self._deaths} times; output was only copied from then"
            self._copy_alone()

    def _collect(self) -> None:
        """Take in what the pump has told: new sources, shut ones, the lock to hold, a problem."""
        while self._control is not None:
            packet = control.receive(self._control)
            if packet is None or not packet[0]:
                return
            about, descriptors = packet
            if "source" in about:
                slot, row, _, _, _, output, name, path, side = about["source"]
                ours, sending, taking = descriptors
                found = Plumbing(slot, row, ours, sending, taking, output, name, path, side)
                self._plumbing.append(found)
            elif "gone" in about:
                self._shut(about["gone"])
            else:
                self._held += descriptors
                self._problem = about.get("problem", self._problem)

    def _shut(self, slot: int) -> None:
        for one in self._plumbing:
            if one.slot == slot:
                os.close(one.read_end)
        self._plumbing = [one for one in self._plumbing if one.slot != slot]

    def _note(self, note: dict[str, Any]) -> None:
        """Tell the pump; a later pump finds the note in its copy of this process."""
        note["time_us"] = time.time_ns() // 1000
        self._notes.append(note)
        if self._control is not None:
            control.send(self._control, {**note, "number": len(self._notes) - 1})

    def _say(self, level: str, text: str) -> None:
        self._note({"kind": "say", "level": level, "text": text})

    def _copy_alone(self) -> None:
        """Copy to the terminal in this process; what is copied so is a gap."""
        locks: dict[int, threading.Lock] = {}
        output_lock = threading.Lock()
        for one in self._plumbing:
            if self._board.get(one.slot, Field.EOF):
                continue
            stream_lock = locks.setdefault(one.row, threading.Lock())
            source = Source(one, self._board, NoSink(), stream_lock, output_lock)
            self._copiers.append(threading.Thread(target=self._copy, args=(source,), daemon=True))
            self._copiers[-1].start()

    def _copy(self, source: Source) -> None:
        source.run()
        if source.reader_gone:
            os.close(source.plumbing.read_end)

    # Signals

    def _handle(self, info: Optional[signal.struct_siginfo]) -> None:
        if info is None:
            return
        number = info.si_signo
        if number == signal.SIGCHLD:
            self._reap()
            self._collect()
        elif signals.from_keyboard(info):
            self._from_keyboard(number)
        elif info.si_pid != os.getpid():
            self._pass_on(number, info.si_pid)

    def _from_keyboard(self, number: int) -> None:
        if number == signal.SIGWINCH:
            self._resize()
        elif number in signals.CANCELING:
            self._canceled = self._impatient = True
            self._say("info", f"{signals.name_of(number)} from the keyboard")

    def _pass_on(self, number: int, sender: int) -> None:
        if self._status is not None:
            self._impatient = self._impatient or number in signals.CANCELING
            return
        if number in signals.CANCELING:
            self._canceled = True
        if number not in (signal.SIGWINCH, signal.SIGCONT):
            self._say("info", f"{signals.name_of(number)} from process {sender} passed on")
        try:
            os.kill(self._command, number)
        except ProcessLookupError:
            pass

    def _resize(self) -> None:
        """Follow the terminal, then tell the group again: CMD may have looked too early."""
        self._collect()
        changed = [terminal.copy_size(one.output, one.read_end) for one in self._plumbing]
        if any(changed):
            os.kill(0, signal.SIGWINCH)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._pump and not os.WIFSTOPPED(status):
                self._pump_ended(status)
            elif pid == self._command and os.WIFSTOPPED(status):
                self._command_stopped(os.WSTOPSIG(status))
            elif pid == self._command:
                self._status = status

    def _command_stopped(self, number: int) -> None:
        """Stop too, so that the shell has its prompt back; not for a SIGSTOP meant for CMD alone:
        nobody would think of continuing us after it."""
        if number == signal.SIGSTOP:
            return
        signals.stop_as(number)
        self._resize()
        os.kill(self._command, signal.SIGCONT)

    # End

    def _finish(self) -> int:
        assert self._status is not None
        code = os.waitstatus_to_exitcode(self._status)
        detail: dict[str, Any] = {"exit_code": code if code >= 0 else 128 - code}
        if code < 0:
            detail["signal"] = signals.name_of(-code)
        canceled = self._canceled and code != 0
        detail["status"] = "completed" if code == 0 else "canceled" if canceled else "failed"
        cause = "exit" if code >= 0 else "signal"
        how = detail.get("signal") or f"exit code {code}"
        self._say("info" if code == 0 else "error", f"command ended: {how}")
        self._impatient = False
        self._wait_for_pump({"kind": "ended", "cause": cause, "detail": detail})
        self._tell_end(detail["status"])
        return int(detail["exit_code"])

    def _wait_for_pump(self, note: dict[str, Any]) -> None:
        """Wait for the rest of the output, as long as somebody who waits for CMD would."""
        self._close_theirs()
        self._note(note)
        ended_ns = time.monotonic_ns()
        deadline_ns = ended_ns + int(self._job.drain_seconds * 1e9)
        while self._busy(ended_ns):
            # A reader that is slow held up CMD without us too; only a canceled run is bounded.
            stuck = self._blocked() and not self._canceled
            if self._impatient or (time.monotonic_ns() > deadline_ns and not stuck):
                break
            self._handle(signals.wait(_LOOK_SECONDS))
        if self._copiers:
            self._end_without_pump(note)

    def _busy(self, ended_ns: int) -> bool:
        """Return whether output is on its way, or was a moment ago."""
        working = any(thread.is_alive() for thread in self._copiers)
        if not (self._pump or working):
            return False
        slots = range(self._board.sources)
        if all(self._board.get(slot, Field.EOF) for slot in slots):
            return bool(self._pump)
        if self._blocked():
            return True
        last_ns = max(self._board.get(slot, Field.ACTIVE_NS) for slot in slots)
        return time.monotonic_ns() - max(last_ns, ended_ns) < QUIET_SECONDS * 1e9

    def _blocked(self) -> bool:
        """Return whether bytes wait to be copied."""
        self._collect()
        for one in self._plumbing:
            if self._board.get(one.slot, Field.EOF):
                continue
            if self._board.get(one.slot, Field.PHASE) != Phase.FILL:
                return True
            try:
                if fill_of(one.read_end):
                    return True
            except OSError:
                pass
        return False

    def _end_without_pump(self, note: dict[str, Any]) -> None:
        """Let a last child, which may die of the same, write the end that is known here."""
        self._notes[:] = [*self._notes[: self._board.notes_done], note]
        self._say("error", self._problem)
        for one in self._plumbing:
            self._board.set(one.slot, Field.EOF, 1)
        self._copiers = []
        self._deaths = MAX_DEATHS
        ours, theirs = control.pair()
        pump = Pump(self._job, self._board, theirs, None, [], self._notes, MAX_DEATHS, self._lock())
        child = os.fork()
        if child == 0:
            ours.close()
            _be(pump)
        theirs.close()
        os.waitpid(child, 0)

    # What the user is told, on a terminal only

    def _tell(self, text: str) -> None:
        if not self._job.quiet and not self._closed and os.isatty(2):
            os.write(2, f"loghaul: {text}\n".encode("utf-8", "backslashreplace"))

    def _tell_end(self, status: str) -> None:
        run_id = self._job.settings.run_id
        if self._problem:
            self._tell(f"not all was kept: {self._problem}")
        self._tell(f"{status}; see it with: loghaul logs {run_id}")


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
