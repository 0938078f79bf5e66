"""A topic of Kafka as a source: its partitions are shared by the workers of one group.

Promises, beside those of `base.Source`: an offset is committed explicitly, only for a partition
that is still ours under the same epoch, so whoever gets it next begins behind what is durable.
Offsets need not be dense. Records that the topic's retention took before they were read are
reported as `Lost`. A consumer that stands still although records wait ends the worker: `Stalled`.

aiokafka joins, heartbeats and fetches in tasks of its own; what they report and what is polled goes
through one queue, so that its order is the order in which it happened.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from loghaul.chunk import Record
from loghaul.errors import TransportError
from loghaul.transports.address import Address
from loghaul.transports.kafka import examine, require, said
from loghaul.transports.probe import probe
from loghaul.transports.topic import problems
from loghaul_ingest.errors import SourceError
from loghaul_ingest.sources.base import Assigned, Event, Fetched, Lost, Partition, Revoked
from loghaul_ingest.sources.watchdog import STALL_SECONDS, Watchdog

#: Compressed bytes that are fetched ahead, per partition and per answer of a broker.
PARTITION_BYTES, ANSWER_BYTES = 512 * 1024, 8 * 2**20
#: Taken out of aiokafka at once, so that no partition keeps the others waiting for long.
TAKEN_RECORDS = 16
SESSION_MS, HEARTBEAT_MS, POLL_MS = 45_000, 3_000, 300_000
#: While the store is slow nothing is polled; so often at least, or the group takes us for dead.
ALIVE_SECONDS = 30.0
COMMIT_SECONDS, CLOSE_SECONDS, ADMIN_SECONDS = 15.0, 5.0, 10.0


class Refused(SourceError):
    """Settings or rights have to change."""

    permanent = True


class KafkaSource:
    """See `base.Source`. Positions are offsets; a partition is named `<topic>/<number>`."""

    def __init__(
        self,
        address: Address,
        group: str,
        *,
        instance: str | None = None,
        stall_seconds: float = STALL_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        note: Callable[..., None] = lambda event, **fields: None,
    ) -> None:
        """`instance`: a name that is this worker's alone; it keeps its partitions over restarts."""
        self.address, self._group, self._instance = address, group, instance
        self._stall_seconds, self._clock, self._note = stall_seconds, clock, note
        self._watchdog = Watchdog(self._waiting, stall_seconds, clock)
        self._consumer: Any = None
        self._queue: list[Event] = []
        self._ours: dict[int, Partition] = {}
        self._next: dict[Partition, int] = {}
        self._poll: asyncio.Task[None] | None = None
        self._epoch = 0
        self._polled_at = clock()
        self._begun = self._joined = False
        self._taking = False

    # -- base.Source

    async def fetch(self, max_bytes: int, timeout_seconds: float) -> Sequence[Event]:
        """See `base.Source`."""
        if self._consumer is None:
            await self.open()
        if max_bytes <= 0:
            await self._hold(timeout_seconds)
            return self._given(records=False)
        if self._poll is None:
            self._poll = asyncio.create_task(self._take(max_bytes))
        await asyncio.wait({self._poll}, timeout=timeout_seconds)
        if self._poll.done():
            task, self._poll = self._poll, None
            await self._finished(task)
        self._watchdog.check()
        return self._given(records=True)

    async def commit(self, positions: Mapping[Partition, Any]) -> None:
        """See `base.Source`."""
        from aiokafka import errors
        from aiokafka.structs import OffsetAndMetadata

        if self._consumer is None:
            return
        assigned = self._consumer.assignment()
        offsets = {
            self._place(partition): OffsetAndMetadata(offset + 1, "")
            for partition, offset in positions.items()
            if partition in self._next and self._place(partition) in assigned
        }
        if not offsets:
            return
        try:
            await asyncio.wait_for(self._consumer.commit(offsets), COMMIT_SECONDS)
        except (errors.CommitFailedError, errors.IllegalStateError, errors.IllegalOperation):
            # They went to another member meanwhile, who reads again what was not committed.
            self._note("positions of partitions that moved were not committed")
        except (errors.KafkaError, TimeoutError) as error:
            raise SourceError(f"offsets cannot be committed: {said(error)}") from error

    async def close(self) -> None:
        """See `base.Source`."""
        if self._poll is not None:
            self._poll.cancel()
            await asyncio.gather(self._poll, return_exceptions=True)
            self._poll = None
        await self._watchdog.close()
        await self._drop()

    # -- for the worker of a group

    async def open(self) -> None:
        """Connect and join. Raises Refused, or SourceError where it may work later."""
        try:
            require()
            await probe(self.address)
            topic = await examine(self.address)
        except TransportError as error:
            raise (Refused if error.permanent else SourceError)(str(error)) from error
        unsafe = problems(topic, self.address)
        if unsafe and (not self._begun or not topic.partitions):
            raise Refused("; ".join(unsafe))
        self._begun = True
        for problem in unsafe:
            # It became so while we read: what is there is read before it is gone.
            self._note("the topic is not safe any more", problem=problem)
        await self._join()

    async def ends(self) -> dict[Partition, int]:
        """Return the ends of our partitions at this moment. Raises SourceError."""
        from aiokafka import errors

        ours = {self._place(partition): partition for partition in self._ours.values()}
        try:
            found = await asyncio.wait_for(self._consumer.end_offsets(list(ours)), ADMIN_SECONDS)
        except (errors.KafkaError, TimeoutError) as error:
            raise SourceError(f"the ends of {self.address} are not known: {said(error)}") from error
        return {ours[place]: end for place, end in found.items()}

    async def reached(self, ends: Mapping[Partition, int]) -> bool:
        """Whether everything before some ends was fetched, or is not ours to fetch any more."""
        for partition, end in ends.items():
            if self._ours.get(_number(partition)) == partition:
                place = self._place(partition)
                with contextlib.suppress(Exception):
                    position = await asyncio.wait_for(self._consumer.position(place), ADMIN_SECONDS)
                    if position >= end:
                        continue
                return False
        # Last: what a position passed while it was asked for may still be here.
        return not (self._queue or self._taking)

    @property
    def joined(self) -> bool:
        """Whether the group has told us our share."""
        return self._joined

    @property
    def share(self) -> frozenset[Partition]:
        """Our partitions; one that went and came back is another."""
        return frozenset(self._ours.values())

    def lag(self) -> dict[str, int]:
        """Return by partition how many offsets lie ahead, as far as the brokers told."""
        found = {}
        for number, partition in self._ours.items():
            end = self._consumer.highwater(self._place(partition)) if self._consumer else None
            at = self._next.get(partition, -1)
            if end is not None and at >= 0:
                found[str(number)] = max(0, end - at)
        return found

    # -- the group

    async def _join(self) -> None:
        from aiokafka import AIOKafkaConsumer, errors

        consumer = AIOKafkaConsumer(
            **self.address.client(),
            client_id="loghaul-worker",
            group_id=self._group,
            group_instance_id=self._instance,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=SESSION_MS,
            heartbeat_interval_ms=HEARTBEAT_MS,
            max_poll_interval_ms=POLL_MS,
            rebalance_timeout_ms=SESSION_MS,
            max_partition_fetch_bytes=PARTITION_BYTES,
            fetch_max_bytes=ANSWER_BYTES,
            metadata_max_age_ms=30_000,
        )
        try:
            await asyncio.wait_for(consumer.start(), ADMIN_SECONDS)
        except (errors.KafkaError, OSError) as error:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(consumer.stop(), CLOSE_SECONDS)
            raise SourceError(f"{self.address} cannot be read: {said(error)}") from error
        self._consumer = consumer
        self._polled_at = self._clock()
        self._watchdog.alive()
        consumer.subscribe([self.address.topic], listener=_listener(self))

    def revoked(self, numbers: Iterable[int]) -> None:
        """These partitions are ours no more; called by aiokafka before it joins again."""
        self._joined = False
        for number in numbers:
            partition = self._ours.pop(number, None)
            if partition is not None:
                self._next.pop(partition, None)
                self._queue.append(Revoked(partition))

    def assigned(self, numbers: Iterable[int]) -> None:
        """This is our share; called by aiokafka when it has joined."""
        self._joined = True
        self._watchdog.alive()
        share = sorted(numbers)
        for number in share:
            self._own(number)
        self._note("partitions assigned", partitions=share)

    def _own(self, number: int) -> Partition:
        if number not in self._ours:
            self._epoch += 1
            partition = Partition(f"{self.address.topic}/{number}", self._epoch)
            self._ours[number] = partition
            self._next[partition] = -1
            self._queue.append(Assigned(partition))
        return self._ours[number]

    async def _drop(self) -> None:
        """Leave the group; the next fetch joins it anew."""
        consumer, self._consumer = self._consumer, None
        if consumer is None:
            return
        with contextlib.suppress(Exception):
            await asyncio.wait_for(consumer.stop(), CLOSE_SECONDS)
        self.revoked(list(self._ours))

    # -- records

    async def _take(self, max_bytes: int) -> None:
        """Put what there is into the queue; waits a moment when there is nothing."""
        wait_ms = 200
        while max_bytes > 0 and self._consumer is not None:
            got = await self._consumer.getmany(timeout_ms=wait_ms, max_records=TAKEN_RECORDS)
            self._polled_at = self._clock()
            self._taking = bool(got)
            if not got:
                await self._pass_unseen()
                return
            # No await before this: these records belong to what is ours now.
            owned = [(self._own(place.partition), records) for place, records in got.items()]
            self._watchdog.alive()
            wait_ms = 0
            for partition, records in owned:
                await self._note_loss(partition, records[0].offset)
                if partition in self._next:
                    self._next[partition] = records[-1].offset + 1
                for record in records:
                    value = record.value or b""
                    max_bytes -= len(value) + 100
                    found = Record(record.key or b"", value, list(record.headers))
                    time_us = record.timestamp * 1000
                    self._queue.append(Fetched(partition, record.offset, found, time_us))

    async def _pass_unseen(self) -> None:
        """Go on behind offsets at the end that no record has, as the markers of transactions."""
        for partition in list(self._ours.values()):
            place, at = self._place(partition), self._next.get(partition, -1)
            if 0 <= at < (self._consumer.highwater(place) or 0):
                with contextlib.suppress(Exception):
                    position = await asyncio.wait_for(self._consumer.position(place), 1.0)
                    if partition in self._next:
                        self._next[partition] = max(at, position)

    async def _note_loss(self, partition: Partition, offset: int) -> None:
        """Report records that expired unread. A jump of offsets alone says nothing."""
        from aiokafka import errors

        expected = self._next.get(partition, offset)
        if 0 <= expected >= offset:
            return
        try:
            lost = await self._expired(self._place(partition), expected, offset)
        except (errors.KafkaError, TimeoutError) as error:
            # These records are read again, behind what was committed: else nobody asked any more.
            await self._drop()
            raise SourceError(
                f"whether records of {self.address} expired unread is not known: {said(error)}"
            ) from error
        if lost > 0:
            self._queue.append(Lost(partition, "expired in the topic before it was read"))
            self._note("records expired unread", partition=partition.name, offsets=lost)

    async def _expired(self, place: Any, expected: int, offset: int) -> int:
        """Return how many records the topic has no more of those before `offset`."""
        if expected < 0:
            # Nothing read yet. Nothing committed: nobody has read it, or could not say so.
            expected = await asyncio.wait_for(self._consumer.committed(place), ADMIN_SECONDS) or 0
        if offset <= expected:
            return 0
        begin = await asyncio.wait_for(self._consumer.beginning_offsets([place]), ADMIN_SECONDS)
        return int(min(begin[place], offset)) - expected

    async def _finished(self, task: asyncio.Task[None]) -> None:
        from aiokafka import errors

        try:
            task.result()
        except errors.KafkaError as error:
            if isinstance(error, _denied(errors)):
                raise Refused(f"{self.address} may not be read: {said(error)}") from error
            if not error.retriable:
                await self._drop()
            raise SourceError(f"{self.address} cannot be read: {said(error)}") from error

    async def _hold(self, timeout_seconds: float) -> None:
        """Take nothing; show the group now and then that we live."""
        await asyncio.sleep(timeout_seconds)
        self._watchdog.alive()
        polled = self._clock() - self._polled_at < ALIVE_SECONDS
        if self._poll is not None or polled or not self._joined:
            return
        assigned = self._consumer.assignment()
        self._consumer.pause(*assigned)
        try:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(self._consumer.getmany(timeout_ms=0), timeout_seconds + 1)
        finally:
            self._consumer.resume(*(assigned & self._consumer.assignment()))
        self._polled_at = self._clock()

    def _given(self, records: bool) -> list[Event]:
        """Take events out of the queue, in order; without records, those up to the first one."""
        count = len(self._queue)
        if not records:
            count = next(
                (n for n, one in enumerate(self._queue) if isinstance(one, Fetched)), count
            )
        found, self._queue = self._queue[:count], self._queue[count:]
        return found

    # -- for the watchdog

    async def _waiting(self, seconds: float) -> str:
        """Return what waits although nothing came for so many seconds, as a sentence; "": nothing.

        Raises where nobody answers.
        """
        if not self._joined:
            if seconds <= 2 * self._stall_seconds:
                return ""
            await probe(self.address)
            return (
                f"{self.address} answers, and the group {self._group!r} has told no share for "
                f"{seconds:.0f} s: the worker ends, start it again"
            )
        behind = sum(
            [max(0, end - await self._reached(at)) for at, end in (await self.ends()).items()]
        )
        if not behind:
            return ""
        return (
            f"{behind} records wait in {self.address} and none came for {seconds:.0f} s: "
            "the worker ends, start it again"
        )

    async def _reached(self, partition: Partition) -> int:
        """Return the offset up to which a partition was read, by us or before us."""
        if (at := self._next.get(partition, -1)) >= 0:
            return at
        place = self._place(partition)
        at = await asyncio.wait_for(self._consumer.committed(place), ADMIN_SECONDS)
        if at is None:
            begin = self._consumer.beginning_offsets([place])
            at = (await asyncio.wait_for(begin, ADMIN_SECONDS))[place]
        with contextlib.suppress(Exception):
            # It passes markers of transactions, which have offsets and are never given.
            at = max(at, await asyncio.wait_for(self._consumer.position(place), 1.0))
        return int(at)

    # -- inside

    def _place(self, partition: Partition) -> Any:
        from aiokafka.structs import TopicPartition

        return TopicPartition(self.address.topic, _number(partition))


def _number(partition: Partition) -> int:
    return int(partition.name.rpartition("/")[2])


def _denied(errors: Any) -> tuple[type[Exception], ...]:
    return (
        errors.TopicAuthorizationFailedError,
        errors.GroupAuthorizationFailedError,
        errors.ClusterAuthorizationFailedError,
    )


def _listener(source: KafkaSource) -> Any:
    from aiokafka import ConsumerRebalanceListener

    class Listener(ConsumerRebalanceListener):  # type: ignore[misc]
        def on_partitions_revoked(self, revoked: Any) -> None:
            source.revoked(place.partition for place in revoked)

        def on_partitions_assigned(self, assigned: Any) -> None:
            source.assigned(place.partition for place in assigned)

    return Listener()
