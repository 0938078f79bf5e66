"""Keys for programs that look for them at the terminal of their output: pagers, and curses.

`less` opens the terminal of its stderr, sets its modes and reads keys there; curses sets the modes
of the terminal of its stdout, and reads stdin. Under `loghaul run` both are ptys of ours, where
no key ever comes and whose modes nobody's keyboard has. While CMD has one of them without line
editing, the user's terminal gets the same modes; for that of stderr keys are carried over, too.

Done by the guard, at each look, and only while it is in the foreground. Raises nothing: where it
cannot be done, the program waits for keys as it did before.
"""

from __future__ import annotations

import os
import termios
from typing import Any, Optional, Sequence

from loghaul.capture.source import Plumbing

#: How long until the next look: for a program that wants keys, and for the next key.
LOOK_SECONDS, KEY_SECONDS = 0.1, 0.02

_INPUT, _LOCAL, _CHARACTERS = 0, 3, 6


class Keys:
    """The user's terminal, lent to programs below us; nothing where there is none, or no pty."""

    def __init__(self, plumbing: Sequence[Plumbing]) -> None:
        self._terminal = -1
        self._saved: Optional[list[Any]] = None
        if any(os.isatty(one.read_end) for one in plumbing):
            try:
                flags = os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC
                self._terminal = os.open("/dev/tty", flags)
            except OSError:
                pass  # no controlling terminal: no keys

    def pause(self) -> Optional[float]:
        """Return the seconds until the next look, None: never."""
        if self._terminal < 0:
            return None
        return LOOK_SECONDS if self._saved is None else KEY_SECONDS

    def look(self, plumbing: Sequence[Plumbing]) -> None:
        """Lend the terminal, carry keys over, or take it back, as CMD's terminals want it now."""
        if self._terminal < 0:
            return
        try:
            wanting = next(((one, modes) for one in plumbing if (modes := _raw(one))), None)
            if wanting is None or os.tcgetpgrp(self._terminal) != os.getpgrp():
                self.release()
                return
            one, modes = wanting
            if self._saved is None:
                self._lend(modes)
            if one.output == 2:
                self._carry(one.read_end)
        except (OSError, termios.error):
            self.release()

    def release(self) -> None:
        """Give the user's terminal the modes back that it had."""
        saved, self._saved = self._saved, None
        try:
            if saved is not None:
                termios.tcsetattr(self._terminal, termios.TCSANOW, saved)
        except (OSError, termios.error):
            pass  # it was hung up

    def _lend(self, modes: list[Any]) -> None:
        self._saved = termios.tcgetattr(self._terminal)
        lent = list(self._saved)
        for part in (_INPUT, _LOCAL, _CHARACTERS):
            lent[part] = modes[part]
        termios.tcsetattr(self._terminal, termios.TCSANOW, lent)

    def _carry(self, pty: int) -> None:
        try:
            os.write(pty, os.read(self._terminal, 1024))
        except BlockingIOError:
            pass  # no key


def _raw(one: Plumbing) -> Optional[list[Any]]:
    """Return the modes of a pty whose lines are not edited, else None."""
    try:
        modes = termios.tcgetattr(one.read_end)
    except (OSError, termios.error):
        return None  # a pipe, or closed
    return None if modes[_LOCAL] & termios.ICANON else modes
