"""The spool: append-only files on the node that everything is written to first.

The format and its invariants stand in `loghaul.spool.format`.
"""

from __future__ import annotations

from loghaul.spool.budget import Limits, usage
from loghaul.spool.cutter import Cutter
from loghaul.spool.declared import Declared
from loghaul.spool.directories import writers
from loghaul.spool.format import START, Position
from loghaul.spool.reader import Entry, SpoolReader
from loghaul.spool.writer import SpoolWriter

__all__ = [
    "START",
    "Cutter",
    "Declared",
    "Entry",
    "Limits",
    "Position",
    "SpoolReader",
    "SpoolWriter",
    "usage",
    "writers",
]
