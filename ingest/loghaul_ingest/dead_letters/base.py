"""The seam between a worker and where it keeps what no store would take, or what was no log.

A letter is what is said about some bytes: why they are here, where they were on their way, and
what `loghaul dead-letters replay` needs to send them once more. It is named by who keeps it, so
that keeping it twice keeps it once.
"""

from __future__ import annotations

import base64
import os
import secrets
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from loghaul.chunk import Chunk, Mark, Record, StreamKey
from loghaul_ingest.block import Block, Facts
from loghaul_ingest.errors import NotFound, StoreError, UsageError


@dataclass(frozen=True)
class Letter:
    """What is said about the bytes of a letter; the bytes are asked for.

    name    begins with the time it was kept, nanoseconds since the epoch, and ends in 16 random
            hex digits, of which the first few are enough to name it
    about   "reason", "bytes" (how many), "worker", its place, and "record" or "chunk" for a replay
    where   where it lies, for people; "" before it is kept
    offset  of its record, where it lies in a topic
    """

    name: str
    about: Mapping[str, Any]
    where: str = ""
    offset: int | None = None

    @property
    def time_us(self) -> int:
        """When it was kept, microseconds since the epoch; 0 where the name does not say."""
        digits = self.name.partition("-")[0]
        return int(digits) // 1000 if digits.isdecimal() else 0

    @property
    def short(self) -> str:
        """The part of its name that tells it from others."""
        return self.name.partition("-")[2] or self.name

    @property
    def place(self) -> str:
        """Where it was on its way: the stream and offset of a block, the partition of a record."""
        about = self.about
        if "stream" in about:
            return f"{about['stream']}@{about['offset']}" if "offset" in about else about["stream"]
        return f"{about.get('partition', '?')}@{about.get('position', '?')}"

    @property
    def reason(self) -> str:
        """Why it is here."""
        return str(self.about.get("reason", "?"))

    @property
    def worker(self) -> str:
        """Who kept it: host and process."""
        return str(self.about.get("worker", "?"))

    def check(self) -> None:
        """Raise UsageError where nothing is in it that could be sent."""
        if not {"record", "chunk"} & self.about.keys():
            raise UsageError(f"dead letter {self.name} holds nothing that could be sent again")

    def item(self, data: bytes) -> Record | Chunk:
        """Return what was on its way, with these bytes. Raises UsageError as `check`, and where
        the bytes do not fit their place.
        """
        self.check()
        try:
            if "record" in self.about:
                return _record(self.about["record"], data)
            return _chunk(self.about["chunk"], data)
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"dead letter {self.name} cannot be read: {error}") from error


class TooLarge(StoreError):
    """This letter can not be kept there; others can."""

    permanent = True


class DeadLetters(Protocol):
    """Used in one event loop. Errors are StoreError."""

    async def put(self, letter: Letter, data: bytes) -> None:
        """Keep a letter: durable when this returns. One of the same name is replaced by it.

        Raises StoreError: it is not known to be kept; TooLarge: nor ever will be there.
        """
        ...

    async def letters(self) -> Sequence[Letter]:
        """Return what there is, oldest first; empty where nothing was ever kept."""
        ...

    async def data(self, letter: Letter) -> bytes:
        """Return the bytes of a letter. Raises NotFound when it is gone."""
        ...

    async def remove(self, letter: Letter, why: str) -> None:
        """Forget a letter, durably; one that is gone already is no error. `why`: "replayed"."""
        ...

    async def close(self) -> None:
        """Give up what is open. Idempotent."""
        ...


def new_letter(reason: str, about: Mapping[str, Any], data: bytes) -> Letter:
    """Return a letter that nobody has kept yet."""
    name = f"{time.time_ns():020d}-{secrets.token_hex(8)}"
    worker = f"{socket.gethostname()}:{os.getpid()}"
    return Letter(name, {"reason": reason, "bytes": len(data), "worker": worker, **about})


def find(letters: Sequence[Letter], text: str) -> Letter:
    """Return a letter by its number in the list, from 1, its name, or the beginning of its id.

    Raises NotFound, UsageError where several begin so.
    """
    for number, one in enumerate(letters, 1):
        if text in (one.name, one.short, str(number)):
            return one
    near = [one for one in letters if len(text) >= 4 and one.short.startswith(text)]
    if len(near) > 1:
        raise UsageError(f"{len(near)} dead letters begin with {text!r}: give more of the id")
    if not near:
        raise NotFound(f"no dead letter {text!r}; there are {len(letters)}")
    return near[0]


def described(record: Record, time_us: int | None) -> dict[str, Any]:
    """Return what a letter says of a record: for people, and exactly."""
    return {
        "headers": {name: repr(value)[2:-1][:2000] for name, value in record.headers},
        "record": {
            "key": _encoded(record.key),
            "headers": [[name, _encoded(value)] for name, value in record.headers],
            "time_us": time_us,
        },
    }


def described_block(block: Block, facts: Facts | None) -> dict[str, Any]:
    """Return what a letter says of a block that no store would take."""
    head = block.head
    return {
        "stream": str(head.stream),
        "offset": head.offset,
        "chunk": {
            "key": list(head.stream),
            "kind": head.kind,
            "offset": head.offset,
            "marks": [list(mark) for mark in block.marks if mark.length],
            "started": facts.started if facts else head.time_min,
        },
    }


def described_facts(facts: Facts) -> dict[str, Any]:
    """Return what a letter says of a stream that no store would take: there are no bytes in it."""
    return {"stream": str(facts.stream), "facts": str(asdict(facts))}


def _record(about: Mapping[str, Any], data: bytes) -> Record:
    headers = [(str(name), _decoded(value)) for name, value in about["headers"]]
    return Record(_decoded(about["key"]), data, headers)


def _chunk(about: Mapping[str, Any], data: bytes) -> Chunk:
    marks: Sequence[Mark] = [Mark(int(length), int(time_us)) for length, time_us in about["marks"]]
    if sum(mark.length for mark in marks) != len(data):
        raise ValueError("its bytes are more or fewer than they were: their place is fixed")
    key = StreamKey(*map(str, about["key"]))
    return Chunk(
        key, str(about["kind"]), int(about["offset"]), data, tuple(marks), int(about["started"])
    )


def _encoded(value: bytes | None) -> str | None:
    return None if value is None else base64.b64encode(value).decode()


def _decoded(value: str | None) -> bytes:
    return b"" if value is None else base64.b64decode(value)
