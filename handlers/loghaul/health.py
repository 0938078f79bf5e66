"""loghaul's own diagnostics: counters, and a small log of its own. Never the user's loggers.

`note(reason, detail)` counts every call and writes at most one line per reason and ten seconds to
`HOME/client.log` (bounded: one megabyte, then one older file). It never raises, prints or logs,
and may be called from anywhere: signal handlers, fork children, interpreter shutdown.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Optional

MAX_LOG_BYTES = 2**20
QUIET_SECONDS = 10.0

#: reason -> how often it was noted in this process.
counters: dict[str, int] = {}

_written: dict[str, tuple[float, int]] = {}
_home: Optional[Path] = None


def use_home(home: Path) -> None:
    """Write the log below `home` from now on; before that, where the environment says."""
    global _home
    _home = home


def note(reason: str, detail: object = "", now: Optional[float] = None) -> None:
    """Count `reason` (a short fixed text); write it with `detail` unless it was just written."""
    try:
        count = counters[reason] = counters.get(reason, 0) + 1
        now = time.monotonic() if now is None else now
        last, reported = _written.get(reason, (-QUIET_SECONDS, 0))
        if now - last >= QUIET_SECONDS:
            _written[reason] = (now, count)
            _write(f"{reason} x{count - reported}: {_text(detail)}")
    except Exception:  # noqa: BLE001 - the last resort has nobody left to tell
        pass


def log_file() -> Path:
    """Return where notes are written."""
    if _home is not None:
        return _home / "client.log"
    if os.environ.get("LOGHAUL_HOME"):
        return Path(os.environ["LOGHAUL_HOME"], "client.log")
    from loghaul import places

    return places.data_folder() / "client.log"


def _text(detail: object) -> str:
    if isinstance(detail, BaseException):
        frame = detail.__traceback__
        while frame is not None and frame.tb_next is not None:
            frame = frame.tb_next
        place = f" at {frame.tb_frame.f_code.co_filename}:{frame.tb_lineno}" if frame else ""
        return f"{type(detail).__name__}: {detail}{place}"
    return str(detail)


def _write(text: str) -> None:
    """Append one line with one system call, so that lines of several processes stay whole."""
    file = log_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    one_line = text.replace("\n", " | ")[:4000]
    program = sys.argv[0] if getattr(sys, "argv", None) else "python"
    line = f"{stamp} pid={os.getpid()} {os.path.basename(program)} {one_line}\n"
    if file.exists() and file.stat().st_size > MAX_LOG_BYTES:
        os.replace(file, f"{file}.1")
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    descriptor = os.open(file, flags, 0o600)
    try:
        os.write(descriptor, line.encode("utf-8", "backslashreplace"))
    finally:
        os.close(descriptor)
