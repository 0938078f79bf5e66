"""What tells a follower of new lines before the store shows them: the seam (`base`), and

    spool     the spool of this machine, where there is no transport
    topic     the topic, from whatever machine
    memory    for tests

Only the functions here know which there are.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from loghaul.config import Settings
from loghaul.errors import TransportError
from loghaul_ingest.asking import Ask, at_once, beside
from loghaul_ingest.feeds.base import Feed
from loghaul_ingest.feeds.memory import MemoryFeed
from loghaul_ingest.feeds.spool import SpoolFeed


def open_feed(settings: Settings, run: str) -> tuple[Feed, Ask]:
    """Return the feed of a run, and how a store beside it is to be asked. Raises nothing."""
    if not settings.transport:
        return SpoolFeed(Path(settings.spool), run), at_once
    from loghaul.transports.address import parse
    from loghaul_ingest.feeds.connection import Connection
    from loghaul_ingest.feeds.topic import TopicFeed

    try:
        address = parse(settings.transport)
    except TransportError as error:
        nothing = MemoryFeed()
        nothing.trouble, nothing.live = str(error), False
        return nothing, at_once
    return TopicFeed(lambda: Connection(address, settings.group), run), beside


def unstored_runs(settings: Settings, seconds: float) -> list[str]:
    """Return the runs that the topic tells of beyond what is stored, the latest start last.

    seconds    after which it is enough. Raises TransportError.
    """
    from loghaul.transports.address import parse
    from loghaul_ingest.feeds.connection import Connection
    from loghaul_ingest.feeds.unstored import unstored

    return asyncio.run(unstored(Connection(parse(settings.transport), settings.group), seconds))


__all__ = ["Feed", "open_feed", "unstored_runs"]
