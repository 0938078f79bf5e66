"""Writers' directories that cannot be taken in: of a newer loghaul, or damaged beyond reading.

They stay as they are. Nobody may be left in the belief that all that was captured is stored, so
every command that takes in what is there tells of them.
"""

from __future__ import annotations

from pathlib import Path

from loghaul.errors import SpoolError
from loghaul.spool import SpoolReader, writers


def unreadable(spool: Path) -> list[str]:
    """Return what is wrong with each directory that cannot be read, and what to do."""
    found = []
    for directory in writers(spool):
        try:
            SpoolReader(directory).read(1)
        except SpoolError as error:
            # One that is taken in and removed at this moment is none of them.
            if directory.exists():
                text = str(error)
                where = "" if str(directory) in text else f"{directory}: "
                found.append(f"{where}{text}")
    return found


__all__ = ["unreadable"]
