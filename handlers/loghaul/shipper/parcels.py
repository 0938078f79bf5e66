"""What of a writer is on its way, and up to where it may be released."""

from __future__ import annotations

from collections import deque
from typing import Optional

from loghaul.spool.format import Position
from loghaul.spool.rota import Follower


class Parcel:
    """A chunk on its way, as one or more records.

    position   of the spool, releasable when this and all before it are durable
    left       records that are not acknowledged
    """

    __slots__ = ("left", "position")

    def __init__(self, position: Position, records: int) -> None:
        self.position, self.left = position, records


class Parcels:
    """The chunks of one writer, in the order of its spool; acknowledged in any order."""

    def __init__(self, follower: Follower) -> None:
        self.follower = follower
        self._under_way: deque[Parcel] = deque()
        self._safe: Optional[Position] = None
        self._released_at = 0.0

    def add(self, position: Position, records: int) -> Parcel:
        """Note a chunk that is sent."""
        parcel = Parcel(position, records)
        self._under_way.append(parcel)
        return parcel

    def release(self, now: float, every_seconds: float) -> bool:
        """Release what is durable, not too often; return whether it did. Raises OSError."""
        while self._under_way and not self._under_way[0].left:
            self._safe = self._under_way.popleft().position
        safe, follower = self._safe, self.follower
        if safe is None:
            return False
        if now - self._released_at < every_seconds and not (follower.ended and not self._under_way):
            return False
        self._released_at = now
        follower.release(safe)
        self._safe = None
        return True
