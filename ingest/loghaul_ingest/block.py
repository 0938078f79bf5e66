"""A block: consecutive bytes of a stream at rest, and what is needed to find them.

The only thing that a store holds of a log. Its identity is (stream, offset). An event belongs to
the block in which it ends; where the first event of a block began in an earlier one, `head` says
how many bytes before, and the block's words include the words of that beginning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from loghaul.chunk import End, Gap, Mark, StreamKey

#: A block is sealed at this size, this many events, or this age, whichever is first.
MAX_BYTES = 64 * 1024
MAX_LINES = 256
MAX_AGE_SECONDS = 1.0

#: Of a line that began in earlier blocks, this many bytes are indexed again where it ends.
MAX_HEAD_BYTES = 64 * 1024


#: The one field of a block whose words no store would take: it is proposed for every query.
UNINDEXED = "indexed=no"


class BlockKey(NamedTuple):
    """Identity of a block."""

    stream: StreamKey
    offset: int


@dataclass(frozen=True, slots=True)
class Head:
    """All of a block that a reader needs before it reads the bytes.

    kind            of the stream: text, events, blob
    offset, length  the bytes [offset, offset + length) of the stream
    head            bytes before `offset` where the first event that ends here began (0: here)
    time_min/max    least and greatest time of its events, microseconds; clocks step back
    lines           events that end here (an unfinished last line of an ended stream counts)
    progress        of these, states of a progress bar that were overwritten by the next
    levels          events per level name ("error": 3); those without a level are not counted
    position        last transport position it holds, where the source has one (Kafka's offset)
    """

    stream: StreamKey
    kind: str
    offset: int
    length: int
    head: int
    time_min: int
    time_max: int
    lines: int
    progress: int = 0
    levels: Mapping[str, int] = field(default_factory=dict)
    position: int | None = None

    @property
    def key(self) -> BlockKey:
        """Identity."""
        return BlockKey(self.stream, self.offset)

    @property
    def end(self) -> int:
        """Offset of the first byte behind it."""
        return self.offset + self.length


@dataclass(frozen=True, slots=True)
class Block:
    """A block as a worker writes it.

    data            the exact bytes (a store compresses them)
    marks           arrival of the bytes; lengths add up to head.length. A first one of length 0
                    is the arrival of the first byte of the event that began before the block
    words           `words.words` of the bytes, with those of the head before them
    words_high      the same of the events at warning and above alone
    fields          what can be asked by value, as `tokens` writes it: "level=error",
                    "logger=azure.core", "error.type=valueerror", "extra.epoch=3.0"; a query asks
                    for `tokens.asked(...)`, because what is too much is replaced by a "*".
                    UNINDEXED alone: it has words, but they were left out
    """

    head: Head
    data: bytes
    marks: tuple[Mark, ...]
    words: bytes
    words_high: bytes
    fields: frozenset[str]


@dataclass(frozen=True, slots=True)
class Facts:
    """What is the same for a whole stream, as a store keeps it (`common` of its chunks).

    common          ECS fields: run.id, run.node, run.rank, run.attempt, host.name, process.pid,
                    experiment.name, log.file.path, log.iostream, labels ...; and `role`
                    ("supervisor", "process", "session"), `parent` (writer), `started` (of the
                    writer, microseconds)
    end             None while the stream is open
    gaps            ranges known never to come, ascending
    """

    stream: StreamKey
    kind: str
    started: int
    common: Mapping[str, Any]
    end: End | None = None
    gaps: tuple[Gap, ...] = ()


@dataclass(frozen=True, slots=True)
class Extent:
    """What is stored of a stream: everything in [0, end) but the holes.

    holes           ascending (offset, length) inside [0, end) not stored; gaps are among them
    """

    end: int = 0
    holes: tuple[tuple[int, int], ...] = ()
