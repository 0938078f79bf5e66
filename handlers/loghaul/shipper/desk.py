"""SPOOL/shipper: the lock of the node's one shipper, what it says of itself, and its log.

lock          flock, held while a shipper lives
status.json   what it does just now, about once per second
wanted        fingerprint of the transport that the last run was started with: a shipper of
              another one gives way to it
log           see `loghaul.journal`
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator

from loghaul.errors import LoghaulError
from loghaul.spool.facts import write_atomically


class Busy(LoghaulError):
    """Another shipper serves this spool."""


class Desk:
    """The folder of a spool's shipper."""

    def __init__(self, spool: Path) -> None:
        self.spool = spool
        self.folder = spool / "shipper"
        self.log = self.folder / "log"
        self._lock = -1

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Hold the lock. Raises Busy where somebody has it, OSError where it cannot be made."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Busy(f"another shipper serves {self.spool}") from None
            yield
        finally:
            os.close(self._lock)

    @property
    def ours(self) -> bool:
        """Whether the lock that is held still is that of the spool: it may be removed under us."""
        try:
            return os.path.samestat(os.stat(self.folder / "lock"), os.fstat(self._lock))
        except OSError:
            return False

    @property
    def taken(self) -> bool:
        """Whether a shipper lives."""
        return is_locked(self.folder / "lock")

    def say(self, **status: Any) -> None:
        """Tell what is done; best effort."""
        try:
            write_atomically(self.folder / "status.json", status)
        except OSError:
            pass

    def heard(self) -> dict[str, Any]:
        """Return what the last shipper told; {} when there was none."""
        try:
            found = json.loads((self.folder / "status.json").read_bytes())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def want(self, transport: str) -> None:
        """Ask a shipper of another transport to give way. Raises OSError."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.folder / "wanted").write_text(fingerprint(transport))

    def wants_another(self, transport: str) -> bool:
        """Whether somebody asked for a shipper of another transport."""
        try:
            wanted = (self.folder / "wanted").read_text()
        except OSError:
            return False
        return bool(wanted) and wanted != fingerprint(transport)


def fingerprint(transport: str) -> str:
    """Tell transports apart without showing what is in them."""
    return hashlib.sha256(transport.encode()).hexdigest()[:16]


def is_locked(path: Path) -> bool:
    """Tell whether somebody holds a lock file."""
    try:
        lock = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False
