"""How much of a node's disk the spool may take, and who is refused first when it runs out.

Asked when a writer needs a new segment, and while it refuses; never per record.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import NamedTuple, Optional, Union

from loghaul.spool.segment import KIB, SIZES

GIB = 1024**3
#: Severity from which records are still taken, by share of `max_bytes` that is used.
LEVELS = ((1.0, None), (0.9, 30), (0.8, 20))
REFUSE, BLOCK = "refuse", "block"

#: Reasons of gaps.
SPOOL_FULL, DISK_FULL = "spool full", "disk full"


def why(error: OSError) -> str:
    """Return the reason of the gap that an error of the disk makes."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DISK_FULL
    return f"spool cannot be written: {error.strerror or error}"


class Limits(NamedTuple):
    """Bounds of a node's spool.

    max_bytes       of all writers' segments together
    reserve_bytes   free space that the spool leaves to everybody else on its disk; None: 512 MiB
                    or 5 % of the disk, whichever is less
    full            "refuse": what does not fit is counted and becomes a gap; "block": the calling
                    thread waits for space
    """

    max_bytes: int = GIB
    reserve_bytes: Optional[int] = None
    full: str = REFUSE


class Budget:
    """The limits of one root, and the room that is left under them."""

    def __init__(self, root: Path, limits: Limits) -> None:
        self._root, self._limits = root, limits

    @property
    def blocks(self) -> bool:
        """True where the user chose to wait instead of losing records."""
        return self._limits.full == BLOCK

    def segment_size(self, created: int) -> int:
        """Return the size of a writer's next segment after `created` ones, in bytes."""
        wanted = SIZES[min(created, len(SIZES) - 1)]
        # A small budget wants small segments: they are the unit of release.
        return max(16 * KIB, min(wanted, self._limits.max_bytes // 32 // 4096 * 4096))

    def floor(self, wanted: int = 0) -> tuple[Optional[int], str]:
        """Return the least severity that is taken now (None: nothing is) and the reason.

        wanted    bytes of the segment that is about to be created
        """
        if self._free() < wanted:
            return None, DISK_FULL
        used = usage(self._root)
        if used + wanted > self._limits.max_bytes:
            return None, SPOOL_FULL
        if self.blocks:
            return -1, SPOOL_FULL
        share = used / self._limits.max_bytes
        return next((floor for least, floor in LEVELS if share >= least), -1), SPOOL_FULL

    def _free(self) -> int:
        """Free bytes of the disk beyond the reserve."""
        try:
            disk = os.statvfs(self._root)
        except OSError:
            return 0
        reserve = self._limits.reserve_bytes
        if reserve is None:
            reserve = min(GIB // 2, disk.f_blocks * disk.f_frsize // 20)
        return disk.f_bavail * disk.f_frsize - reserve


def usage(root: Path) -> int:
    """Return the bytes on disk of all segments below a root."""
    return sum(
        allocated_in(entry.path) for entry in _scan(root) if entry.is_dir(follow_symlinks=False)
    )


def allocated_in(directory: Union[str, Path]) -> int:
    """Return the bytes on disk of a writer's segments."""
    return sum(_allocated(file) for file in _scan(directory))


def _scan(path: Union[str, Path]) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return list(entries)
    except OSError:
        return []


def _allocated(file: os.DirEntry[str]) -> int:
    if not file.name.endswith(".segment"):
        return 0
    try:
        return file.stat(follow_symlinks=False).st_blocks * 512
    except OSError:
        return 0
