"""Dead letters on a topic of their own, `<topic>-dead-letters`, where everyone can see them.

A letter is a record: its key is the letter's name, its value the bytes; headers say `reason`,
`place`, `time` and `worker`, for kcat and people, and `about`, JSON, is all of it, exactly. Kafka
deletes no record: a letter that is gone is a tombstone of its name, with `gone` and `time`, and
the topic is compacted. `loghaul setup` makes it.

Letters are few, so all of one partition is read to list them; their bytes are left behind then,
and fetched one by one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from loghaul.errors import TransportError
from loghaul.transports.address import Address
from loghaul.transports.kafka import examine, require
from loghaul.transports.probe import probe
from loghaul.transports.topic import Topic
from loghaul_ingest.dead_letters.base import Letter, TooLarge
from loghaul_ingest.errors import NotFound, StoreError
from loghaul_ingest.topics import LETTERS, letters_of

#: For one letter, connecting included: a worker waits for it.
PUT_SECONDS, OPEN_SECONDS, CLOSE_SECONDS = 10.0, 10.0, 2.0
#: Nothing of a topic that is being read came for so long.
READ_SECONDS = 10.0
#: What a header says at most; `about` says everything.
HEADER_CHARACTERS = 2000


class TopicLetters:
    """See `base.DeadLetters`. Connects when it is first used, and anew after what failed."""

    def __init__(self, address: Address) -> None:
        """`address`: of the topic of lines."""
        self.address = letters_of(address)
        self._producer: Any = None
        self._consumer: Any = None
        self._place: Any = None

    def __str__(self) -> str:
        return str(self.address)

    async def put(self, letter: Letter, data: bytes) -> None:
        """See `base.DeadLetters`. Raises TooLarge for one that the topic never takes."""
        await self._send(letter, data, _headers(letter))

    async def letters(self) -> Sequence[Letter]:
        """See `base.DeadLetters`."""
        found: dict[str, Letter] = {}
        async with self._failing("read"):
            await self._open_reader()
            async for record in self._records():
                name = (record.key or b"").decode("utf-8", "replace")
                found.pop(name, None)
                if record.value is not None:
                    found[name] = self._letter(name, record)
        return [found[name] for name in sorted(found)]

    async def data(self, letter: Letter) -> bytes:
        """See `base.DeadLetters`."""
        async with self._failing("read"):
            if letter.offset is not None:
                await self._open_reader()
                consumer, place = self._consumer, self._place
                if await consumer.position(place) != letter.offset:
                    consumer.seek(place, letter.offset)
                record = await self._next(letter.offset)
                if record is not None and record.value is not None:
                    return bytes(record.value)
        raise NotFound(f"dead letter {letter.name} is gone from {self.address}")

    async def remove(self, letter: Letter, why: str) -> None:
        """See `base.DeadLetters`: a tombstone."""
        await self._send(letter, None, {"gone": why, "time": _utc(datetime.now(UTC).timestamp())})

    async def close(self) -> None:
        """See `base.DeadLetters`."""
        clients = [self._producer, self._consumer]
        self._producer = self._consumer = None
        for client in clients:
            if client is not None:
                with contextlib.suppress(Exception):
                    await asyncio.wait_for(client.stop(), CLOSE_SECONDS)

    # -- out

    async def _send(self, letter: Letter, value: bytes | None, said: Mapping[str, str]) -> None:
        from aiokafka import errors

        headers = [(name, text.encode("utf-8", "backslashreplace")) for name, text in said.items()]
        try:
            async with self._failing("written"), asyncio.timeout(PUT_SECONDS):
                if self._producer is None:
                    self._producer = await self._open_producer()
                await self._producer.send_and_wait(
                    self.address.topic, value, letter.name.encode(), 0, headers=headers
                )
        except StoreError as error:
            if isinstance(error.__cause__, errors.MessageSizeTooLargeError):
                size = len(value or b"")
                raise TooLarge(f"{self.address} takes no record of {size} bytes") from error
            raise

    async def _open_producer(self) -> Any:
        from aiokafka import AIOKafkaProducer

        topic = await self._look()
        if wrong := LETTERS.problems(topic, self.address):
            raise StoreError("; ".join(wrong))
        producer = AIOKafkaProducer(
            **self.address.client(),
            client_id="loghaul-dead-letters",
            enable_idempotence=True,
            acks="all",
            compression_type="zstd",
            # The size before compression: what is too large is for the broker to say.
            max_request_size=2**30,
        )
        return await self._started(producer)

    # -- in

    async def _open_reader(self) -> None:
        """Have a consumer on all of the topic."""
        from aiokafka import AIOKafkaConsumer
        from aiokafka.structs import TopicPartition

        if self._consumer is not None:
            return
        topic = await self._look()
        if not topic.partitions:
            raise StoreError("; ".join(LETTERS.problems(topic, self.address)))
        consumer = AIOKafkaConsumer(
            **self.address.client(),
            client_id="loghaul-dead-letters",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
        )
        self._consumer = await self._started(consumer)
        self._place = TopicPartition(self.address.topic, 0)
        self._consumer.assign([self._place])

    async def _records(self) -> AsyncIterator[Any]:
        """Yield all records there are now, from the first one on."""
        consumer, place = self._consumer, self._place
        end = (await consumer.end_offsets([place]))[place]
        begin = (await consumer.beginning_offsets([place]))[place]
        consumer.seek(place, begin)
        at = begin
        while at < end:
            record = await self._next(end - 1)
            if record is None:
                return
            yield record
            at = record.offset + 1

    async def _next(self, last: int) -> Any:
        """Return the next record; None when there is none up to the offset `last`.

        Compaction takes records, the last ones too: then the position passes them.
        """
        until = asyncio.get_running_loop().time() + READ_SECONDS
        while await self._consumer.position(self._place) <= last:
            found = await self._consumer.getmany(timeout_ms=200, max_records=1)
            for records in found.values():
                return records[0] if records[0].offset <= last else None
            if asyncio.get_running_loop().time() > until:
                raise StoreError(f"{self.address} gave no record within {READ_SECONDS:g} s")
        return None

    def _letter(self, name: str, record: Any) -> Letter:
        headers = dict(record.headers)
        try:
            about = json.loads(headers["about"])
        except (KeyError, ValueError) as error:
            reason = f"the letter's description cannot be read: {type(error).__name__}"
            about = {"reason": reason, "bytes": len(record.value)}
        where = f"{self.address} offset {record.offset}"
        return Letter(name, about if isinstance(about, dict) else {}, where, record.offset)

    # -- both

    async def _look(self) -> Topic:
        require()
        await probe(self.address)
        return await examine(self.address)

    async def _started(self, client: Any) -> Any:
        try:
            await asyncio.wait_for(client.start(), OPEN_SECONDS)
        except BaseException:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(client.stop(), CLOSE_SECONDS)
            raise
        return client

    @contextlib.asynccontextmanager
    async def _failing(self, done: str) -> AsyncIterator[None]:
        """Turn what fails into StoreError, and begin with new connections after it."""
        require()
        from aiokafka import errors

        try:
            yield
        except (NotFound, StoreError, TransportError) as error:
            await self.close()
            if isinstance(error, TransportError):
                raise StoreError(str(error)) from error
            raise
        except (errors.KafkaError, OSError, TimeoutError) as error:
            await self.close()
            text = str(error) or type(error).__name__
            raise StoreError(f"{self.address} cannot be {done}: {text}") from error


def _headers(letter: Letter) -> dict[str, str]:
    said = {
        "reason": letter.reason,
        "place": letter.place,
        "time": _utc(letter.time_us / 1e6),
        "worker": letter.worker,
    }
    shown = {name: text[:HEADER_CHARACTERS] for name, text in said.items()}
    return {**shown, "about": json.dumps(letter.about, default=str)}


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")
