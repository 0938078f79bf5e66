"""Kafka as transport, through aiokafka's idempotent producer.

One connection's worth: whatever fails makes the whole producer worthless here, and whoever ships
begins again, with a new one, behind the last acknowledgement. That is also what keeps the order:
the broker takes a batch of a producer only behind the one before it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any, AsyncIterator, Sequence

from loghaul.chunk import Record
from loghaul.errors import TransportError, TransportRefused
from loghaul.transports import topic as topics
from loghaul.transports.address import Address
from loghaul.transports.base import RECORD_BYTES
from loghaul.transports.probe import probe

#: Largest batch of a partition, before compression: below what a broker takes by default. A topic
#: that takes less gets less, but a record always fits.
BATCH_BYTES, AROUND_BYTES = 960 * 1024, 16 * 1024
#: For one answer of a broker; aiokafka tries again inside of it.
REQUEST_MS = 30_000
CLOSE_SECONDS = 3.0
ADMIN_SECONDS = 15.0


class KafkaTransport:
    """See `base.Transport`."""

    def __init__(self, address: Address, client_id: str = "loghaul-shipper") -> None:
        self.address = address
        self.partitions, self.name = 0, str(address.topic)
        self._client_id = client_id
        self._producer: Any = None

    async def open(self) -> None:
        """See `base.Transport`."""
        require()
        await probe(self.address)
        topic = await examine(self.address)
        if unsafe := topics.problems(topic, self.address):
            raise TransportRefused("; ".join(unsafe))
        self.partitions, self.name = topic.partitions, f"{topic.cluster}/{topic.name}"
        from aiokafka import AIOKafkaProducer

        self._producer = AIOKafkaProducer(
            **self.address.client(),
            client_id=self._client_id,
            enable_idempotence=True,
            acks="all",
            compression_type="zstd",
            max_batch_size=_batch_bytes(topic),
            # The size before compression; what the topic takes was looked at above.
            max_request_size=2**30,
            request_timeout_ms=REQUEST_MS,
            metadata_max_age_ms=60_000,
        )
        async with _translated("the brokers cannot be used"):
            await asyncio.wait_for(self._producer.start(), ADMIN_SECONDS)

    async def send(self, partition: int, records: Sequence[Record]) -> None:
        """See `base.Transport`."""
        async with _translated(f"partition {partition} of {self.address} takes no records"):
            batch, sent = self._producer.create_batch(), []
            for record in records:
                if not _put(batch, record):
                    sent.append(await self._hand_over(batch, partition))
                    batch = self._producer.create_batch()
                    _put(batch, record)
            sent.append(await self._hand_over(batch, partition))
            for one in sent:
                await one

    async def close(self) -> None:
        """See `base.Transport`."""
        producer, self._producer = self._producer, None
        if producer is not None:
            # It would wait for its records for ever; what is left of it ends with the event loop.
            with contextlib.suppress(Exception):
                await asyncio.wait_for(producer.stop(), CLOSE_SECONDS)

    async def _hand_over(self, batch: Any, partition: int) -> asyncio.Future[Any]:
        """Queue a batch behind those before it; the future is its acknowledgement."""
        batch.close()
        sent: asyncio.Future[Any] = await self._producer.send_batch(
            batch, self.address.topic, partition=partition
        )
        return sent


def _batch_bytes(topic: topics.Topic) -> int:
    taken = int((topic.settings or {}).get("max.message.bytes", 2**30))
    return max(RECORD_BYTES, min(BATCH_BYTES, taken - AROUND_BYTES))


def _put(batch: Any, record: Record) -> bool:
    taken = batch.append(timestamp=None, key=record.key, value=record.value, headers=record.headers)
    return taken is not None


async def examine(address: Address) -> topics.Topic:
    """Return what the cluster says of the topic. Raises TransportError."""
    async with admin(address) as client:
        return await topics.read(client, address.topic)


@contextlib.asynccontextmanager
async def admin(address: Address) -> AsyncIterator[Any]:
    """Give a started admin client of aiokafka. Raises TransportError."""
    require()
    from aiokafka.admin import AIOKafkaAdminClient

    client = AIOKafkaAdminClient(**address.client(), request_timeout_ms=10_000)
    try:
        async with _translated(f"{address} cannot be used"):
            await asyncio.wait_for(client.start(), ADMIN_SECONDS)
            yield client
    finally:
        with contextlib.suppress(Exception):
            await asyncio.wait_for(client.close(), CLOSE_SECONDS)


def require() -> None:
    """Say what is missing where aiokafka is; keep it from printing where it is there."""
    for name in ("aiokafka", "cramjam"):
        try:
            __import__(name)
        except ModuleNotFoundError as error:
            raise TransportRefused(f"install 'loghaul[kafka]' ({error.name} is missing)") from error
    # What it has to say comes as exceptions too; its log is not for the terminal of a user.
    log = logging.getLogger("aiokafka")
    if not log.handlers:
        log.addHandler(logging.NullHandler())
        log.propagate = False


@contextlib.asynccontextmanager
async def _translated(what: str) -> AsyncIterator[None]:
    """Turn aiokafka's errors into ours."""
    from aiokafka import errors

    refused = (
        errors.TopicAuthorizationFailedError,
        errors.ClusterAuthorizationFailedError,
        errors.MessageSizeTooLargeError,
        errors.InvalidTopicError,
    )
    try:
        yield
    except refused as error:
        raise TransportRefused(f"{what}: {said(error)}") from error
    except errors.InvalidTimestampError as error:
        raise TransportRefused(
            f"{what}: the clock of this machine is far off the brokers': set it (NTP), or let "
            "theirs count with `loghaul setup`; until then the spool keeps the lines"
        ) from error
    except (errors.KafkaError, OSError, asyncio.TimeoutError) as error:
        raise TransportError(f"{what}: {said(error)}") from error
    except AssertionError as error:
        # A partition that is not there any more.
        raise TransportError(f"{what}: {error}") from error


def said(error: BaseException) -> str:
    """Return what an error of aiokafka is and says: many say nothing."""
    text = str(error) or getattr(error, "description", "")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
