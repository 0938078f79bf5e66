"""Signals of the guard: all blocked, taken one by one, and told apart by who sent them.

A positive `si_code` is the kernel's: a keyboard's Ctrl-C, a hang-up. CMD is in the same process
group and got it too. Anything else was sent by a process to the guard, and is CMD's by right.
"""

from __future__ import annotations

import os
import signal
from typing import Optional

#: Passed on to CMD when a process sent them.
PASSED_ON = frozenset(
    {
        signal.SIGTERM,
        signal.SIGHUP,
        signal.SIGINT,
        signal.SIGQUIT,
        signal.SIGUSR1,
        signal.SIGUSR2,
        signal.SIGALRM,
        signal.SIGVTALRM,
        signal.SIGPROF,
        signal.SIGXCPU,
        signal.SIGIO,
        signal.SIGPWR,
        signal.SIGTSTP,
        signal.SIGTTIN,
        signal.SIGTTOU,
        signal.SIGCONT,
        signal.SIGWINCH,
        *range(signal.SIGRTMIN, signal.SIGRTMAX + 1),
    }
)
#: After one of these a CMD that ends was canceled, unless it ends with 0.
CANCELING = frozenset({signal.SIGINT, signal.SIGTERM})
#: Also the guard's: what its children do, and the pump asking for it.
TAKEN = PASSED_ON | {signal.SIGCHLD}


def block() -> set[signal.Signals]:
    """Block what the guard takes and return the mask before."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, TAKEN)
    return {signal.Signals(number) for number in before if number in signal.valid_signals()}


def wait(seconds: Optional[float] = None) -> Optional[signal.struct_siginfo]:
    """Return the next signal, or None after `seconds`."""
    if seconds is None:
        return signal.sigwaitinfo(TAKEN)
    return signal.sigtimedwait(TAKEN, seconds)


def from_keyboard(info: signal.struct_siginfo) -> bool:
    """Return whether the kernel sent it, to the whole foreground group."""
    return info.si_code > 0


def stop_as(number: int) -> None:
    """Stop this process as CMD was stopped; returns when it is continued."""
    if number == signal.SIGSTOP:
        os.kill(os.getpid(), signal.SIGSTOP)
        return
    before = signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    signal.signal(number, before)


def name_of(number: int) -> str:
    """Return `SIGTERM` for 15, `signal 40` for one without a name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
