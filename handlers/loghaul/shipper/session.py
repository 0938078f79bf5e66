"""One connection's worth of shipping: spool -> chunks -> records -> acknowledged -> released.

It ends with the first failure. Then everything that was not released is read from the spool again
by the next session, so that no state of this one has to be mended.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Callable

from loghaul.errors import TransportError
from loghaul.shipper.fitting import records
from loghaul.shipper.lane import Lane
from loghaul.shipper.parcels import Parcels
from loghaul.shipper.route import Route
from loghaul.spool.rota import Given, Rota
from loghaul.transports.base import Transport

#: On its way at most; and so much room makes it worth reading on.
IN_FLIGHT_BYTES, ROOM_BYTES = 8 * 2**20, 2 * 2**20
#: Between two releases of one writer: each is a file written.
RELEASE_SECONDS = 0.2
#: Nothing acknowledged for so long, although something is on its way: begin again.
STALL_SECONDS = 90.0


@dataclass
class Counts:
    """What was acknowledged, and how often all began again."""

    chunks: int = 0
    records: int = 0
    bytes: int = 0
    dropped_bytes: int = 0
    retries: int = 0


class Session:
    """Ships over one opened transport. `step` by hand."""

    def __init__(
        self,
        transport: Transport,
        rota: Rota,
        counts: Counts,
        *,
        note: Callable[..., None] = lambda event, **fields: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._transport, self._rota, self._counts = transport, rota, counts
        self._note, self._clock = note, clock
        self._lanes = [Lane(transport, number) for number in range(transport.partitions)]
        self._parcels: dict[int, Parcels] = {}
        self._routes: dict[int, Route] = {}
        self._heard_at = clock()
        self.in_flight = 0

    async def step(self, timeout_seconds: float = 0.05, flush: bool = False) -> int:
        """Do once all that can be done; wait when there is nothing. Return bytes taken.

        Raises TransportError when something on its way will not arrive.
        """
        room = IN_FLIGHT_BYTES - self.in_flight
        taken = self._take(room, flush) if room >= ROOM_BYTES else 0
        for lane in self._lanes:
            lane.start()
        await self._wait(0.0 if taken else timeout_seconds)
        self._collect()
        self.release(RELEASE_SECONDS)
        return taken

    def release(self, every_seconds: float = 0.0) -> None:
        """Release what is durable, and forget the writers that are gone."""
        now = self._clock()
        for parcels in self._parcels.values():
            try:
                parcels.release(now, every_seconds)
            except OSError as error:
                self._note("a position of the spool cannot be kept", error=str(error))
        for follower in self._rota.retire():
            self._parcels.pop(follower.number, None)
            self._routes.pop(follower.number, None)

    @property
    def resting(self) -> bool:
        """Whether nothing is on its way."""
        return self.in_flight == 0

    # -- inside

    def _take(self, room: int, flush: bool) -> int:
        taken = 0
        for given in self._rota.read(room, flush):
            taken += self._dispatch(given)
        if self.resting:
            self._heard_at = self._clock()
        self.in_flight += taken
        return taken

    def _dispatch(self, given: Given) -> int:
        follower, size = given.follower, 0
        parcels = self._parcels.get(follower.number)
        if parcels is None:
            parcels = self._parcels[follower.number] = Parcels(follower)
            self._routes[follower.number] = Route(
                follower.path, self._transport.name, len(self._lanes)
            )
        route = self._routes[follower.number]
        for chunk, position in given.chunks:
            found = records(chunk)
            parcel = parcels.add(position, len(found))
            for record in found:
                size += self._lanes[route.partition(record.key)].put(record, parcel)
            self._counts.chunks += 1
        return size

    async def _wait(self, timeout_seconds: float) -> None:
        tasks = [lane.task for lane in self._lanes if lane.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=timeout_seconds, return_when=asyncio.FIRST_COMPLETED)
        else:
            await asyncio.sleep(timeout_seconds)

    def _collect(self) -> None:
        for lane in self._lanes:
            sent, size = lane.collect()
            if sent:
                self._counts.records += sent
                self._counts.bytes += size
                self.in_flight -= size
                self._heard_at = self._clock()
        if self.in_flight and self._clock() - self._heard_at > STALL_SECONDS:
            raise TransportError(f"no acknowledgement within {STALL_SECONDS:g} s")

    async def close(self) -> None:
        """Forget what is on its way; what arrived of it is sent again, which does no harm."""
        tasks = [lane.task for lane in self._lanes if lane.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.release()
