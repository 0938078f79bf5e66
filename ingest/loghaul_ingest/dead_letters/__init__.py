"""What no store would take, or what was no log: kept with its reason, for a person to look at.

    base        the seam, and what a letter is
    directory   HOME/dead-letters: without Kafka, and where the topic takes none
    topic       `<topic>-dead-letters`, beside the topic of lines
    memory      for tests

Only the function here knows which there are.
"""

from __future__ import annotations

from collections.abc import Callable

from loghaul.config import Settings
from loghaul_ingest.dead_letters.base import DeadLetters, Letter, find
from loghaul_ingest.dead_letters.directory import DirectoryLetters
from loghaul_ingest.dead_letters.fallback import FallbackLetters


def open_dead_letters(
    settings: Settings, note: Callable[..., None] = lambda event, **fields: None
) -> DirectoryLetters | FallbackLetters:
    """Return where the letters of these settings are; connects to nothing yet.

    Raises TransportRefused for a transport that cannot be used.
    """
    directory = DirectoryLetters(settings.home / "dead-letters")
    if not settings.transport:
        return directory
    from loghaul.transports.address import parse
    from loghaul_ingest.dead_letters.topic import TopicLetters

    return FallbackLetters(TopicLetters(parse(settings.transport)), directory, note)


__all__ = [
    "DeadLetters",
    "DirectoryLetters",
    "FallbackLetters",
    "Letter",
    "find",
    "open_dead_letters",
]
