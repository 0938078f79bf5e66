"""What carries records away from a node: the seam (`base`) and its implementations.

    kafka://host1,host2/topic     see `address`; needs the extra `kafka`
    memory                        `memory.MemoryTopic`, for tests

Only the function here knows which there are; an implementation is imported when used.
"""

from __future__ import annotations

from typing import Callable

from loghaul.transports.base import Transport


def connector(dsn: str) -> Callable[[], Transport]:
    """Return what makes a new transport, unopened, each time it is called.

    Raises TransportRefused for a DSN that cannot be used.
    """
    from loghaul.transports.address import parse
    from loghaul.transports.kafka import KafkaTransport

    address = parse(dsn)
    return lambda: KafkaTransport(address)


__all__ = ["Transport", "connector"]
