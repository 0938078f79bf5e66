"""The writers of a root: who is there, who died without an end, what is dropped for space."""

from __future__ import annotations

import os
import re
from pathlib import Path

_ID = re.compile(r"[0-9a-f]{32}\Z")


def writers(root: Path) -> list[Path]:
    """Return the directories of all writers below a root, oldest first; [] without a root."""
    found = []
    try:
        with os.scandir(root) as entries:
            for entry in entries:
                if _ID.match(entry.name):
                    found.append((_created(entry), entry.name))
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [Path(root) / name for _, name in sorted(found)]


def _created(entry: os.DirEntry[str]) -> int:
    """When a writer began: writer.json is written once."""
    try:
        return os.stat(os.path.join(entry.path, "writer.json")).st_mtime_ns
    except OSError:
        return 0
