"""Starts what moves lines on beside a run: a process of its own that nothing of the run depends on.

That is the ingest worker of this home, or, where a transport is set, the shipper of this node.
Standard library only, Python >= 3.9. Nothing is imported from the worker: it is only looked for.
"""

from __future__ import annotations

import os
import sys

from loghaul.config import Settings

#: A shell between, so that the worker is nobody's child here and holds nothing of ours.
_SCRIPT = """
cd / || exit
if command -v nice >/dev/null 2>&1; then set -- nice -n 10 "$@"; fi
exec </dev/null >>"$LOGHAUL_WORKER_LOG" 2>&1
"$@" &
"""


def start(settings: Settings) -> bool:
    """Start a worker or shipper, if it is wanted, installed and none runs; never raises.

    Returns at once: True when one was started. It lives in a session of its own, with stdout and
    stderr at HOME/worker/log or SPOOL/shipper/log, and gives way to the training (nice 10).
    """
    try:
        if not settings.background or not _installed() or _serves(settings):
            return False
        _spawn(settings)
    except Exception as error:  # noqa: BLE001 - a run does not depend on its worker
        from loghaul import health

        health.note("worker could not be started", error)
        return False
    return True


def _installed() -> bool:
    from importlib.util import find_spec

    return find_spec("loghaul_ingest") is not None


def _serves(settings: Settings) -> bool:
    """Return whether somebody serves this home, or ships this spool to the same transport."""
    import fcntl

    if settings.transport:
        from loghaul.shipper.desk import Desk, fingerprint

        desk = Desk(settings.spool)
        same = desk.heard().get("transport_id") in (None, fingerprint(settings.transport))
        return desk.taken and same

    try:
        lock = os.open(settings.home / "worker" / "lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def _spawn(settings: Settings) -> None:
    import signal

    folder, command = settings.home / "worker", "ingest"
    if settings.transport:
        folder, command = settings.spool / "shipper", "ship"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    environment = {**os.environ, **settings.environment(), "LOGHAUL_WORKER_LOG": f"{folder}/log"}
    # It is no part of the run, and must not hook or log into it.
    for name in ("LOGHAUL_RUN_ID", "LOGHAUL_PARENT", "LOGHAUL_RANKS", "PYTHONPATH"):
        environment.pop(name, None)
    environment.update(_import_path())
    worker = [sys.executable, "-m", "loghaul_ingest", command, "--background"]
    pid = os.posix_spawn(
        "/bin/sh",
        ["/bin/sh", "-c", _SCRIPT, "sh", *worker],
        environment,
        setsid=True,
        setsigmask=[],
        setsigdef=[signal.SIGPIPE],
    )
    os.waitpid(pid, 0)


def _import_path() -> dict[str, str]:
    """Return a PYTHONPATH by which the worker is found as it was found here."""
    here = [path for path in sys.path if os.path.isdir(os.path.join(path, "loghaul_ingest"))]
    return {"PYTHONPATH": here[0]} if here and "site-packages" not in here[0] else {}
