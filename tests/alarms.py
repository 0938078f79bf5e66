"""SIGALRM for the tests of code that signals interrupt, and back to the clock of their own limit.

with alarm(handler):                  # handler(number, frame); set the timer as you like
with storm(handler, seconds=0.0002):  # handler() is called that often
interrupted(work, 200)                # work() over and over, and so many KeyboardInterrupts
"""

import signal
from contextlib import contextmanager


@contextmanager
def alarm(handler):
    """Give SIGALRM to a handler for a while; afterwards the test's limit goes on."""
    left, _ = signal.setitimer(signal.ITIMER_REAL, 0)
    before = signal.signal(signal.SIGALRM, handler)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, left)


@contextmanager
def storm(handler, seconds=0.0002, most=5000):
    """Call a handler every so many seconds, but not for ever.

    Where a signal costs more than that, nothing but the handler would get on.
    """

    def limited(_number, _frame):
        nonlocal most
        most -= 1
        if most <= 0:
            signal.setitimer(signal.ITIMER_REAL, 0)
        handler()

    with alarm(limited):
        signal.setitimer(signal.ITIMER_REAL, seconds, seconds)
        yield


def interrupted(work, times):
    """Work over and over, interrupted at so many moments; return how often it was."""

    def handler(_number, _frame):
        raise KeyboardInterrupt

    interrupts = 0
    with alarm(handler):
        for n in range(times):
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.00005 + n * 1e-6)
                for _ in range(1_000_000):
                    work()
            except KeyboardInterrupt:
                interrupts += 1
    return interrupts
