"""The seam between the shipper and what carries records away.

A transport has partitions, numbered from 0. Within one the order of sending is kept, whatever
fails: no record is there without those that were sent before it, at some time.
"""

from __future__ import annotations

from typing import Protocol, Sequence

from loghaul.chunk import Record

#: A record is at most so large: a chunk, with room for what stands in its headers.
RECORD_BYTES = 512 * 1024


class Transport(Protocol):
    """Used by one shipper, in one event loop, and thrown away when something failed."""

    #: Set by `open`: how many partitions there are; may grow later.
    partitions: int
    #: Names what is on the other end for good: a topic that was made anew has another.
    name: str

    async def open(self) -> None:
        """Connect, and look whether what is sent there is safe; within seconds.

        Raises TransportRefused where only a change of settings or rights helps, TransportError
        where it may work later.
        """
        ...

    async def send(self, partition: int, records: Sequence[Record]) -> None:
        """Return when all records are durable on the other end, for whoever has to be asked.

        Called again for the same partition only after that. Raises TransportError (of which
        TransportRefused is one): then any number of them, from the first on, may be there; the
        whole is to be sent again over a new transport.
        """
        ...

    async def close(self) -> None:
        """Give up the connections; waits for nothing for long. Idempotent."""
        ...
