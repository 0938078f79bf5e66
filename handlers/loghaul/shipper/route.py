"""Which partition a stream goes to: chosen once, so that partitions that are added move nothing.

A partition is a hash of the stream's name over the count of partitions. The count that a writer
began with stands beside its position, in route.json.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Optional
from zlib import crc32

from loghaul.spool.facts import write_atomically

ROUTE_NAME = "route.json"


class Route:
    """The way of one writer's streams over a topic."""

    def __init__(self, directory: Path, topic: str, partitions: int) -> None:
        """Take up what was remembered, where it is of this topic and still possible."""
        self.count = partitions
        remembered = _remembered(directory, topic)
        if remembered is not None and remembered <= partitions:
            self.count = remembered
            return
        try:
            write_atomically(directory / ROUTE_NAME, {"topic": topic, "partitions": partitions})
        except OSError:
            # A disk that is full is freed by shipping; without the file a stream moves at worst.
            pass

    def partition(self, key: bytes) -> int:
        """Return the partition of a record's key."""
        return partition_of(key, self.count)


def partition_of(key: bytes, count: int) -> int:
    """Return the partition of a record's key where there are so many."""
    return crc32(key) % count


def _remembered(directory: Path, topic: str) -> Optional[int]:
    try:
        body = json.loads((directory / ROUTE_NAME).read_bytes())
        return int(body["partitions"]) if body["topic"] == topic else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
