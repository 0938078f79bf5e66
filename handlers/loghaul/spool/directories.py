"""The writers of a root: who is there, who died without an end, what is dropped for space."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path

from loghaul.errors import SpoolError
from loghaul.spool import lock
from loghaul.spool.facts import read_facts
from loghaul.spool.format import (
    CLOSE,
    DECLARE,
    END,
    HEADER,
    HEADER_BYTES,
    NO_STREAM,
    SegmentHeader,
)
from loghaul.spool.recovery import is_valid
from loghaul.spool.segment import KIB, Segment, segment_name, segment_numbers
from loghaul.spool.survey import Survey, survey
from loghaul.spool.tree import remove_tree

_ID = re.compile(r"[0-9a-f]{32}\Z")
_LEFTOVER = re.compile(r"\.[0-9a-f]{32}(\.removed)?\Z")
#: A directory under a dotted name that is older than this was left by a killed process.
LEFTOVER_SECONDS = 600.0


def writers(root: Path) -> list[Path]:
    """Return the directories of all writers below a root, oldest first; [] without a root."""
    found = sorted((_created(path), path) for path in _matching(root, _ID))
    return [path for _, path in found]


def abandoned(root: Path) -> list[Path]:
    """Write the end ("lost", without digest) of every writer that died without one.

    Returns the directories that got one now. One whose writer lives, whose disk is full, or that
    a newer loghaul wrote stays as it is, for the next call. Also removes what killed processes
    left half-made.
    """
    _sweep(root)
    return [directory for directory in writers(root) if _end_if_abandoned(directory)]


def drop_oldest(root: Path, wanted_bytes: int) -> int:
    """Drop whole segments, oldest first, until so many bytes are free; return how many were.

    The last segment of each writer stays, so that its streams and their ends stay known. What
    is dropped unread becomes gaps. This is a decision of the shipper: a writer never drops.
    """
    freed = 0
    for _, path in sorted(_droppable(root)):
        if freed >= wanted_bytes:
            break
        try:
            size = path.stat().st_blocks * 512
            path.unlink()
        except OSError:
            continue
        freed += size
    return freed


def has_ended(directory: Path) -> bool:
    """Tell from its last bytes whether a closed directory has all its ends."""
    numbers = segment_numbers(directory)
    if not numbers:
        return False
    try:
        with open(directory / segment_name(numbers[-1]), "rb") as file:
            file.seek(-HEADER_BYTES, os.SEEK_END)
            last = file.read()
    except OSError:
        return False
    return is_valid(last, 0) and HEADER.unpack(last)[3] >> 16 & 0xFF == CLOSE


def _matching(root: Path, pattern: re.Pattern[str]) -> list[Path]:
    try:
        return [Path(root) / name for name in os.listdir(root) if pattern.match(name)]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _created(directory: Path) -> int:
    """When a writer began: writer.json is written once."""
    try:
        return (directory / "writer.json").stat().st_mtime_ns
    except OSError:
        return 0


def _end_if_abandoned(directory: Path) -> bool:
    if has_ended(directory):
        return False
    try:
        held = lock.take(directory)
    except OSError:
        return False
    if held is None:
        return False
    try:
        found = survey(directory)
        if found.ended:
            return False
        _write_end(directory, found)
        return True
    except (OSError, SpoolError):
        return False
    finally:
        os.close(held)


def _write_end(directory: Path, found: Survey) -> None:
    """Write the segment that closes a dead writer's row."""
    facts = read_facts(directory)
    body = {"cause": "lost", "sha256": None, "detail": {"status": "lost"}}
    end = json.dumps(body).encode()
    needed = sum(len(s.encode()) + len(end) + 2 * HEADER_BYTES + 16 for s in found.streams)
    size = (needed + 8 * KIB) & -4096
    header = SegmentHeader(found.segment + 1, size, facts.id, time.time_ns() // 1000)
    segment = Segment(directory, header)
    for number, payload in [(s.number, s.encode()) for s in found.streams]:
        segment.put(DECLARE, number, found.ends[number], found.last_us, payload)
    for stream in found.streams:
        segment.put(END, stream.number, found.ends[stream.number], found.last_us, end)
    segment.put(CLOSE, NO_STREAM, 0, found.last_us, b"")
    segment.close(cut=True)


def _droppable(root: Path) -> list[tuple[int, Path]]:
    found = []
    for directory in writers(root):
        for number in segment_numbers(directory)[:-1]:
            path = directory / segment_name(number)
            try:
                found.append((path.stat().st_mtime_ns, path))
            except OSError:
                continue
    return found


def _sweep(root: Path) -> None:
    for path in _matching(root, _LEFTOVER):
        if path.name.endswith(".removed") or _is_stale(path):
            remove_tree(path)


def _is_stale(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime > LEFTOVER_SECONDS
    except OSError:
        return False
