"""Records on their way to one partition: in order, one sending at a time.

What comes while a sending is under way goes together in the next, so batches are as large as the
other end is slow.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import NamedTuple, Optional

from loghaul.chunk import Record
from loghaul.shipper.fitting import size
from loghaul.shipper.parcels import Parcel
from loghaul.transports.base import Transport

#: Handed over at once: two batches, so that one is made ready while the other is on its way.
SEND_BYTES = 1800 * 1024


class Waiting(NamedTuple):
    """A record, its size, and the chunk that it is of."""

    record: Record
    size: int
    parcel: Parcel


class Lane:
    """One partition of a transport."""

    def __init__(self, transport: Transport, partition: int) -> None:
        self._transport, self._partition = transport, partition
        self._waiting: deque[Waiting] = deque()
        self._sent: list[Waiting] = []
        self.task: Optional[asyncio.Task[None]] = None

    def put(self, record: Record, parcel: Parcel) -> int:
        """Queue a record; return its size."""
        one = Waiting(record, size(record), parcel)
        self._waiting.append(one)
        return one.size

    def start(self) -> None:
        """Send what waits, unless a sending is under way."""
        if self.task is not None or not self._waiting:
            return
        left = SEND_BYTES
        while self._waiting and (left > 0 or not self._sent):
            one = self._waiting.popleft()
            left -= one.size
            self._sent.append(one)
        records = [one.record for one in self._sent]
        self.task = asyncio.ensure_future(self._transport.send(self._partition, records))

    def collect(self) -> tuple[int, int]:
        """Take note of a sending that is done; return its (records, bytes).

        Raises TransportError where it failed.
        """
        if self.task is None or not self.task.done():
            return 0, 0
        task, self.task = self.task, None
        task.result()
        sent, self._sent = self._sent, []
        for one in sent:
            one.parcel.left -= 1
        return len(sent), sum(one.size for one in sent)
