"""What of a run has not left the node yet, while `loghaul run` waits for the shipper.

Counted are the folders of the supervisor and of the processes below it that have ended; what still
lives writes on, and nobody waits for it.
"""

from __future__ import annotations

import time
from pathlib import Path

from loghaul.config import Settings
from loghaul.errors import SpoolError
from loghaul.shipper.desk import Desk
from loghaul.spool import lock, saved_position, writers
from loghaul.spool.facts import read_facts
from loghaul.spool.segment import segment_name, segment_numbers

#: A shipper that was just started is not there yet.
START_SECONDS = 10.0
#: Between counts; and until progress is worth a line.
COUNT_SECONDS, SHOWN_SECONDS = 0.1, 0.5


class Leaving:
    """The bytes of one supervisor's run that wait in the spool."""

    def __init__(self, settings: Settings, writer: str) -> None:
        self.left = 0
        self._settings, self._writer = settings, writer
        self._desk = Desk(settings.spool)
        self._begun = time.monotonic()
        self._counted_at = self._shown_at = float("-inf")
        self._ours: dict[str, bool] = {}

    def look(self) -> bool:
        """Count again; return whether there is something to wait for, and hope."""
        now = time.monotonic()
        if now - self._counted_at >= COUNT_SECONDS:
            self._counted_at = now
            self.left = sum(_waiting(path) for path in self._folders())
        return bool(self.left) and self._hopeful(now - self._begun)

    def progress(self) -> str:
        """Return what a terminal shows meanwhile, now and then; "" else."""
        now = time.monotonic()
        if now - self._begun < SHOWN_SECONDS or now - self._shown_at < SHOWN_SECONDS:
            return ""
        self._shown_at = now
        failing = self._desk.heard().get("failing") or ""
        why = f" ({failing})" if failing else ""
        return f"\r\x1b[Kloghaul: {self.left / 1e6:,.1f} MB to send{why}"[:200]

    def cleared(self) -> str:
        """Return what removes the progress again."""
        return "\r\x1b[K" if self._shown_at > 0 else ""

    def rest(self) -> str:
        """Name what remains, why, and who sends it."""
        heard = self._desk.heard()
        why = heard.get("failing") or "there was no time for more"
        who = "a shipper goes on" if self._desk.taken else "`loghaul ship --once` sends them"
        return f"{self.left:,} bytes are still in {self._settings.spool}: {why}; {who}"

    def _hopeful(self, seconds: float) -> bool:
        if seconds > self._settings.drain_seconds:
            return False
        if seconds < min(START_SECONDS, self._settings.drain_seconds) and not self._refused():
            return True
        return self._desk.taken and not self._refused()

    def _refused(self) -> bool:
        return bool(self._desk.taken and self._desk.heard().get("refused"))

    def _folders(self) -> list[Path]:
        # The lock of the supervisor's own folder is held by whoever asks here.
        return [
            path
            for path in writers(self._settings.spool)
            if self._is_ours(path) and (path.name == self._writer or lock.is_free(path))
        ]

    def _is_ours(self, path: Path) -> bool:
        if path.name not in self._ours:
            try:
                facts = read_facts(path)
            except SpoolError:
                return False
            parent = facts.facts.get("parent")
            self._ours[path.name] = self._writer in (facts.id, parent)
        return self._ours[path.name]


def _waiting(path: Path) -> int:
    """Return the bytes of a folder's segments behind its position."""
    position = saved_position(path)
    found = 0
    for number in segment_numbers(path):
        try:
            size = (path / segment_name(number)).stat().st_size
        except OSError:
            continue
        if position is None or number > position.segment:
            found += size
        elif number == position.segment:
            found += max(0, size - position.offset)
    return max(found, 1)
