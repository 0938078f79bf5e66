"""The spool: append-only files on the node that everything is written to first.

The format and its invariants stand in `loghaul.spool.format`.
"""

from __future__ import annotations

from loghaul.spool.budget import BLOCK, REFUSE, Limits, usage
from loghaul.spool.cutter import Cutter
from loghaul.spool.declared import Declared
from loghaul.spool.directories import abandoned, drop_oldest, writers
from loghaul.spool.entry import Entry
from loghaul.spool.format import START, Position
from loghaul.spool.mounts import network_type
from loghaul.spool.reader import SpoolReader
from loghaul.spool.released import saved_position
from loghaul.spool.writer import SpoolWriter

__all__ = [
    "BLOCK",
    "REFUSE",
    "START",
    "Cutter",
    "Declared",
    "Entry",
    "Limits",
    "Position",
    "SpoolReader",
    "SpoolWriter",
    "abandoned",
    "drop_oldest",
    "network_type",
    "saved_position",
    "usage",
    "writers",
]
