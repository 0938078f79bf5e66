"""The guard: the process the user started. It is CMD's parent, and stands for it to the outside."""

from __future__ import annotations

import os
import signal
import socket
import time
from typing import Any, Optional

from loghaul.capture import door, signals, terminal, uncaptured
from loghaul.capture.board import Board
from loghaul.capture.command import CommandError, spawn
from loghaul.capture.facts import launch_facts
from loghaul.capture.job import STDERR, STDOUT, Job
from loghaul.capture.keeper import Keeper
from loghaul.capture.keys import Keys
from loghaul.capture.leaving import Leaving
from loghaul.capture.output import identity
from loghaul.capture.pipes import open_queue, open_source
from loghaul.capture.ranks import place_of
from loghaul.capture.source import Plumbing

_LOOK_SECONDS = 0.05


def run(job: Job) -> int:
    """Run the job's command as a run, and return its exit code (128 + n for a signal).

    Whatever goes wrong with the capture itself, the command runs.
    """
    closed = uncaptured.reserve()
    mask = signals.block()
    try:
        guard = Guard(job, closed, mask)
    except OSError as error:
        uncaptured.become(job, closed, mask, error)
    return guard.main()


class Guard:
    """Starts CMD, passes on signals, waits, and tells how it ended."""

    def __init__(self, job: Job, closed: list[int], mask: set[signal.Signals]) -> None:
        """Open pipes and board. Raises OSError when there are no descriptors left."""
        self._job, self._closed, self._mask = job, closed, mask
        board = Board()
        self._theirs: dict[int, int] = {}
        plumbing = self._open_sources()
        board.sources = len(plumbing)
        self._listener = self._listen()
        self._keeper = Keeper(job, board, plumbing, self._listener)
        self._keys = Keys(plumbing)
        self._command = 0
        self._status: Optional[int] = None
        self._canceled = False
        self._impatient = False

    def main(self) -> int:
        """Run CMD to its end and return its exit code."""
        self._tell(f"run {self._job.settings.run_id}")
        self._keeper.start(foreign=tuple(self._theirs.values()))
        for level, text in launch_facts(self._job, self._keeper.plumbing):
            self._keeper.say(level, text)
        try:
            self._start_command()
        except CommandError as error:
            return self._not_started(error)
        while self._status is None:
            self._handle(signals.wait(self._keys.pause()))
            self._keys.look(self._keeper.plumbing)
        self._keys.release()
        return self._finish()

    # Start

    def _open_sources(self) -> list[Plumbing]:
        found = []
        queues: dict[tuple[int, int], tuple[int, int]] = {}
        for row, output, name in ((STDOUT, 1, "stdout"), (STDERR, 2, "stderr")):
            place = identity(output)
            queue = queues[place] = queues.get(place) or open_queue(output)
            path, pty = self._job.driver_log, self._job.pty
            one, self._theirs[output] = open_source(row, row, output, queue, name, path, pty)
            found.append(one)
        return found

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
        self._keeper.note({"kind": "started", "pid": self._command})
        self._keeper.say("info", f"started pid {self._command}")

    def _close_theirs(self) -> None:
        for descriptor in self._theirs.values():
            os.close(descriptor)
        self._theirs = {}

    def _not_started(self, error: CommandError) -> int:
        os.write(2, f"loghaul: {error}\n".encode("utf-8", "backslashreplace"))
        self._keeper.say("error", str(error))
        detail = {
            "exit_code": error.exit_code,
            "status": "failed",
            "error.type": "CommandError",
            "error.message": str(error),
        }
        self._wait_for_pump({"kind": "ended", "cause": "exit", "detail": detail})
        return error.exit_code

    # Signals

    def _handle(self, info: Optional[signal.struct_siginfo]) -> None:
        if info is None:
            return
        number = info.si_signo
        if number == signal.SIGCHLD:
            self._reap()
            self._keeper.collect()
        elif signals.from_keyboard(info):
            self._from_keyboard(number)
        elif info.si_pid != os.getpid():
            self._pass_on(number, info.si_pid)

    def _from_keyboard(self, number: int) -> None:
        if number == signal.SIGWINCH:
            self._resize()
        elif number in signals.CANCELING:
            self._canceled = self._impatient = True
            self._keeper.say("info", f"{signals.name_of(number)} from the keyboard")

    def _pass_on(self, number: int, sender: int) -> None:
        if self._status is not None:
            self._impatient = self._impatient or number in signals.CANCELING
            return
        if number in signals.CANCELING:
            self._canceled = True
        if number not in (signal.SIGWINCH, signal.SIGCONT):
            self._keeper.say("info", f"{signals.name_of(number)} from process {sender} passed on")
        try:
            os.kill(self._command, number)
        except ProcessLookupError:
            pass

    def _resize(self) -> None:
        """Follow the terminal, then tell the group again: CMD may have looked too early."""
        self._keeper.collect()
        changed = [terminal.copy_size(one.output, one.read_end) for one in self._keeper.plumbing]
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
            if pid == self._keeper.pid and not os.WIFSTOPPED(status):
                self._keeper.ended(status)
            elif pid == self._command and os.WIFSTOPPED(status):
                self._command_stopped(os.WSTOPSIG(status))
            elif pid == self._command:
                self._status = status

    def _command_stopped(self, number: int) -> None:
        """Stop too, so that the shell has its prompt back; not for a SIGSTOP meant for CMD alone:
        nobody would think of continuing us after it."""
        if number == signal.SIGSTOP:
            return
        self._keys.release()
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
        self._keeper.say("info" if code == 0 else "error", f"command ended: {how}")
        self._impatient = False
        self._wait_for_pump({"kind": "ended", "cause": cause, "detail": detail})
        self._wait_for_shipper()
        self._tell_end(detail["status"])
        return int(detail["exit_code"])

    def _wait_for_pump(self, note: dict[str, Any]) -> None:
        """Wait for the rest of the output, as long as somebody who waits for CMD would."""
        self._close_theirs()
        self._keeper.note(note)
        ended_ns = time.monotonic_ns()
        deadline_ns = ended_ns + int(self._job.drain_seconds * 1e9)
        while self._keeper.is_busy(ended_ns):
            # A reader that is slow held up CMD without us too; only a canceled run is bounded.
            stuck = self._keeper.is_blocked() and not self._canceled
            if self._impatient or (time.monotonic_ns() > deadline_ns and not stuck):
                break
            self._handle(signals.wait(_LOOK_SECONDS))
        self._keeper.finish(note)

    def _wait_for_shipper(self) -> None:
        """Give the lines of this run time to leave the node, which may end with us."""
        settings = self._job.settings
        if not (settings.transport and settings.background) or self._job.parent:
            return
        self._impatient = self._canceled
        shown = not self._job.quiet and not self._closed and os.isatty(2)
        try:
            leaving = Leaving(settings, self._job.writer)
            while leaving.look() and not self._impatient:
                if shown:
                    os.write(2, leaving.progress().encode())
                self._handle(signals.wait(_LOOK_SECONDS))
            if shown:
                os.write(2, leaving.cleared().encode())
            if leaving.left:
                self._left_behind(leaving.rest())
        except Exception as error:  # noqa: BLE001 - the job has ended well without it
            self._left_behind(f"nobody waited for the shipper: {error}")

    def _left_behind(self, text: str) -> None:
        from loghaul import health

        self._tell(text)
        health.note("lines left in the spool", text)

    # What the user is told, on a terminal only

    def _tell(self, text: str) -> None:
        if not self._job.quiet and not self._closed and os.isatty(2):
            os.write(2, f"loghaul: {text}\n".encode("utf-8", "backslashreplace"))

    def _tell_end(self, status: str) -> None:
        run_id = self._job.settings.run_id
        if self._keeper.problem:
            self._tell(f"not all was kept: {self._keeper.problem}")
        self._tell(f"{status}; see it with: loghaul logs {run_id}")
