"""What no store would take, or what was no chunk: kept with its reason, for a person to look at.

One letter is two files in the directory: `<name>.json` says what and why, `<name>.bin` holds the
bytes. A letter is durable when `put` returns, so that the worker may go on behind it; it is never
read again by the worker.
"""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class DeadLetters:
    """A directory of letters; made when the first one comes."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.count = 0
        self._numbers = itertools.count()

    def put(self, reason: str, about: Mapping[str, Any], data: bytes) -> Path:
        """Keep a letter. Raises OSError when it cannot be kept: then it was not, try again."""
        self.directory.mkdir(parents=True, exist_ok=True)
        name = f"{time.time_ns():020d}-{os.getpid()}-{next(self._numbers)}"
        self._write(f"{name}.bin", data)
        described = {"reason": reason, "bytes": len(data), **about}
        path = self._write(f"{name}.json", json.dumps(described, indent=1, default=str).encode())
        self.count += 1
        return path

    def _write(self, name: str, data: bytes) -> Path:
        fresh = self.directory / f".{name}"
        with open(fresh, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        return fresh.rename(self.directory / name)
