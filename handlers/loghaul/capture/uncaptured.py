"""What holds before and without capture: descriptors that the user had closed, and becoming CMD."""

from __future__ import annotations

import os
import signal
from typing import NoReturn

from loghaul.capture.job import Job


def reserve() -> list[int]:
    """Fill 0, 1 and 2 where the user had closed them, so that no pipe of ours gets the number."""
    closed = []
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            closed.append(descriptor)
            os.open(os.devnull, os.O_RDWR)
    return closed


def become(job: Job, closed: list[int], mask: set[signal.Signals], error: OSError) -> NoReturn:
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
