"""What of a writer's directory was released: kept in it, and freed on the disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Optional

from loghaul.spool.facts import write_atomically
from loghaul.spool.format import Position
from loghaul.spool.segment import segment_name, segment_numbers
from loghaul.spool.tree import remove_tree

POSITION_NAME = "position.json"


def save_position(directory: Path, position: Position) -> bool:
    """Note that everything before a position is safe elsewhere; False: the directory is gone.

    Raises OSError when it cannot be written.
    """
    body = {"segment": position.segment, "offset": position.offset, "ends": position.ends}
    try:
        write_atomically(directory / POSITION_NAME, body)
    except FileNotFoundError:
        return False
    return True


def saved_position(directory: Path) -> Optional[Position]:
    """Return what was released of a directory; None when nothing was."""
    try:
        body = json.loads((directory / POSITION_NAME).read_bytes())
        return Position(body["segment"], body["offset"], tuple(body["ends"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def drop_before(directory: Path, number: int) -> int:
    """Unlink the segments before a number; return how many there were."""
    older = [n for n in segment_numbers(directory) if n < number]
    for n in older:
        (directory / segment_name(n)).unlink(missing_ok=True)
    return len(older)


def remove(directory: Path) -> None:
    """Remove a writer's directory as one step."""
    leaving = directory.with_name(f".{directory.name}.removed")
    try:
        directory.rename(leaving)
    except OSError:
        return
    remove_tree(leaving)
