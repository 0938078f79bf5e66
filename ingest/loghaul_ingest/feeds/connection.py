"""One connection to a topic, to read it beside its workers: no group is joined, nothing committed.

What the workers' group has committed says up to where each partition is in the store. Errors of
aiokafka come as TransportError, whose `permanent` says whether only a person can mend it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from loghaul.errors import TransportError, TransportRefused
from loghaul.transports.address import Address
from loghaul.transports.kafka import admin, examine, require
from loghaul.transports.probe import probe

#: As the workers read (`sources.kafka`): compressed bytes per partition, and per answer.
PARTITION_BYTES, ANSWER_BYTES = 512 * 1024, 8 * 2**20
ANSWER_SECONDS, CLOSE_SECONDS = 5.0, 1.0
#: Where one stream's record is looked for.
HOLDER_SECONDS = 3.0


class Raw(NamedTuple):
    """A record as it lies in a partition."""

    offset: int
    value: bytes
    headers: Sequence[tuple[str, bytes]]


class Bounds(NamedTuple):
    """Offsets of a partition: the first that is there, the one behind the last, and the first that
    came within a time that was asked for."""

    begin: int
    end: int
    recent: int


class Connection:
    """Reads the partitions of a topic from offsets that are given."""

    def __init__(self, address: Address, group: str) -> None:
        """`group`: that of the workers."""
        self.address, self._group = address, group
        self._consumer: Any = None
        self._count = 0

    async def open(self) -> None:
        """Connect. Raises TransportError."""
        require()
        await probe(self.address)
        self._count = (await examine(self.address)).partitions
        if not self._count:
            raise TransportError(f"there is no topic {self.address.topic!r} on {self.address}")
        async with self._failing():
            self._consumer = self._made()
            await self._soon(self._consumer.start())

    @property
    def count(self) -> int:
        """How many partitions there are, as the brokers said last: it only grows."""
        told = self._consumer.partitions_for_topic(self.address.topic) or ()
        self._count = max(self._count, len(told))
        return self._count

    async def committed(self, numbers: Iterable[int]) -> Mapping[int, int | None] | None:
        """Return up to where the workers have stored each partition, None where nothing was.

        None for all: this cannot be learnt, for want of a right or of an answer.
        """
        places = [self._place(number) for number in numbers]
        try:
            async with admin(self.address) as client:
                found = await self._soon(
                    client.list_consumer_group_offsets(self._group, partitions=places)
                )
        except Exception:  # noqa: BLE001 - whatever it is, it is not known
            return None
        offsets = {place.partition: found[place].offset for place in places if place in found}
        return {n: at if at >= 0 else None for n, at in offsets.items()}

    async def bounds(self, numbers: Iterable[int], seconds: float) -> dict[int, Bounds]:
        """Return the bounds of partitions; `recent` is what came within `seconds`."""
        places = [self._place(number) for number in numbers]
        since_ms = int((time.time() - seconds) * 1000)
        async with self._failing():
            begins = await self._soon(self._consumer.beginning_offsets(places))
            ends = await self._soon(self._consumer.end_offsets(places))
            asked = dict.fromkeys(places, since_ms)
            times = await self._soon(self._consumer.offsets_for_times(asked))
        return {
            place.partition: Bounds(
                begins[place],
                ends[place],
                times[place].offset if times.get(place) else ends[place],
            )
            for place in places
        }

    def read(self, starts: Mapping[int, int]) -> None:
        """Read these partitions, and no others, from these offsets on."""
        self._consumer.assign([self._place(number) for number in starts])
        for number, offset in starts.items():
            self._consumer.seek(self._place(number), offset)

    def seek(self, number: int, offset: int) -> None:
        """Read a partition on from another offset."""
        self._consumer.seek(self._place(number), offset)

    def rest(self, numbers: Iterable[int]) -> None:
        """Read nothing of these partitions until `wake`."""
        self._consumer.pause(*(self._place(number) for number in numbers))

    def wake(self, number: int, offset: int) -> None:
        """Read a partition again, from an offset on."""
        self.seek(number, offset)
        self._consumer.resume(self._place(number))

    async def records(self, seconds: float) -> Mapping[int, Sequence[Raw]]:
        """Return records by partition, in order; waits so long when there are none."""
        async with self._failing():
            found = await self._consumer.getmany(timeout_ms=int(seconds * 1000))
        return {
            place.partition: [Raw(one.offset, one.value or b"", one.headers) for one in records]
            for place, records in found.items()
        }

    async def position(self, number: int) -> int:
        """Return the offset that is read next."""
        async with self._failing():
            return int(await self._soon(self._consumer.position(self._place(number))))

    async def ends(self, numbers: Iterable[int]) -> dict[int, int]:
        """Return the offsets behind the last records now. Raises where nobody answers."""
        places = [self._place(number) for number in numbers]
        async with self._failing():
            found = await self._soon(self._consumer.end_offsets(places))
        return {place.partition: end for place, end in found.items()}

    async def holder(self, key: bytes, offset: int, numbers: Sequence[int]) -> int | None:
        """Return which of these partitions has a record of that key at an offset."""
        consumer = self._made()
        async with self._failing():
            try:
                await self._soon(consumer.start())
                return await self._holder(consumer, key, offset, numbers)
            finally:
                await _ended(consumer)

    async def close(self) -> None:
        """Give up the connections; for nothing is waited long. Idempotent."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await _ended(consumer)

    # -- inside

    async def _holder(
        self, consumer: Any, key: bytes, offset: int, numbers: Sequence[int]
    ) -> int | None:
        places = [self._place(number) for number in numbers]
        ends = await self._soon(consumer.end_offsets(places))
        begins = await self._soon(consumer.beginning_offsets(places))
        left = {place for place in places if begins[place] <= offset < ends[place]}
        if not left:
            return None
        consumer.assign(list(left))
        for place in left:
            consumer.seek(place, offset)
        until = time.monotonic() + HOLDER_SECONDS
        while left and time.monotonic() < until:
            found = await consumer.getmany(*left, timeout_ms=200, max_records=1)
            for place, records in found.items():
                if records and records[0].offset == offset and records[0].key == key:
                    return int(place.partition)
                left.discard(place)
        return None

    def _made(self) -> Any:
        from aiokafka import AIOKafkaConsumer

        return AIOKafkaConsumer(
            **self.address.client(),
            client_id="loghaul-tail",
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=PARTITION_BYTES,
            fetch_max_bytes=ANSWER_BYTES,
            metadata_max_age_ms=10_000,
        )

    def _place(self, number: int) -> Any:
        from aiokafka.structs import TopicPartition

        return TopicPartition(self.address.topic, number)

    async def _soon(self, answer: Any) -> Any:
        return await _within(answer, ANSWER_SECONDS)

    @contextlib.asynccontextmanager
    async def _failing(self) -> AsyncIterator[None]:
        """Turn aiokafka's errors into ours."""
        from aiokafka import errors

        denied = (errors.TopicAuthorizationFailedError, errors.ClusterAuthorizationFailedError)
        try:
            yield
        except denied as error:
            raise TransportRefused(f"{self.address} may not be read") from error
        except TimeoutError as error:
            raise TransportError(f"{self.address} does not answer") from error
        except (errors.KafkaError, OSError) as error:
            said = str(error) or type(error).__name__
            raise TransportError(f"{self.address} cannot be read: {said}") from error


async def _within(answer: Any, seconds: float) -> Any:
    """Return an answer that comes in time; raise TimeoutError.

    `asyncio.wait_for` waits for what it has cancelled, and aiokafka ends when it likes, with the
    cancellation of some task of its own for all one knows.
    """
    task = asyncio.ensure_future(answer)
    done, _ = await asyncio.wait({task}, timeout=seconds)
    if not done or task.cancelled():
        task.cancel()
        raise TimeoutError
    return task.result()


async def _ended(consumer: Any) -> None:
    with contextlib.suppress(Exception):
        await _within(consumer.stop(), CLOSE_SECONDS)
