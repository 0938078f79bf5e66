"""The own log of a worker or shipper: one JSON object per line, at a sensible rate.

The same event is written at most once per `EVERY` seconds; how often it came meanwhile stands in
the next one. The file is started anew when it is large; the one before stays as `log.1`.
"""

from __future__ import annotations

import json
import os
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

EVERY = 5.0
LARGEST_BYTES = 4 * 2**20


class Journal:
    """Callable as `shell.Note`. What cannot be written is dropped: it is only the log."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last: dict[str, float] = {}
        self._kept_back: dict[str, int] = {}
        try:
            if path.stat().st_size > LARGEST_BYTES:
                path.replace(path.with_name(f"{path.name}.1"))
        except OSError:
            pass

    def __call__(self, event: str, **fields: Any) -> None:
        """Note an event."""
        now = time.monotonic()
        if now - self._last.get(event, -EVERY) < EVERY:
            self._kept_back[event] = self._kept_back.get(event, 0) + 1
            return
        self._last[event] = now
        if repeated := self._kept_back.pop(event, 0):
            fields["repeated"] = repeated
        stamp = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = {"@timestamp": stamp, "message": event, "process.pid": os.getpid(), **fields}
        try:
            with open(self._path, "ab", buffering=0) as file:
                file.write(json.dumps(line, default=str).encode() + b"\n")
        except OSError:
            pass
