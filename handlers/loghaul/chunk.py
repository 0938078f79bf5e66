"""A chunk: consecutive bytes of one stream on their way from the spool to a worker.

This is the only way that log bytes look in transport. A chunk is written as a record of Kafka's
shape, (key, value, headers), also where there is no Kafka: the value is the bytes exactly as they
were captured, everything else stands in the headers, so `kcat -t loghaul` shows readable logs.

Standard library only, Python >= 3.9: this module is imported beside training scripts.
"""

from __future__ import annotations

import json
import zlib
from typing import Any, NamedTuple, Optional

from loghaul.errors import ChunkError

#: Version of the headers. A reader refuses a newer one instead of guessing.
SCHEMA = 1

#: A chunk is cut at this many bytes, or earlier, when its first byte is this old.
MAX_BYTES = 256 * 1024
MAX_AGE_SECONDS = 0.1

#: Kinds of stream, and the content type that each has on the wire.
TEXT, EVENTS, BLOB = "text", "events", "blob"
CONTENT_TYPES = {
    TEXT: b"text/plain",
    EVENTS: b"application/x-ndjson",
    BLOB: b"application/octet-stream",
}

Headers = list[tuple[str, bytes]]


class StreamKey(NamedTuple):
    """Identity of a stream: nothing else tells two streams apart."""

    run: str
    writer: str
    stream: str

    def __str__(self) -> str:
        return f"{self.run}/{self.writer}/{self.stream}"


class Mark(NamedTuple):
    """The next `length` bytes arrived together at `time_us` (microseconds since the epoch, UTC)."""

    length: int
    time_us: int


class End(NamedTuple):
    """The end of a stream.

    length     bytes of the whole stream
    time_us    when it ended
    cause      "exit", "signal", "lost" (its writer vanished), "closed" (an orderly end of a
               session); what is known beside it stands in `detail`
    sha256     hex digest of the whole stream as its writer saw it; None where it could not tell
    detail     JSON object: exit_code, signal, error.type, error.message ...
    """

    length: int
    time_us: int
    cause: str
    sha256: Optional[str]
    detail: dict[str, Any]


class Gap(NamedTuple):
    """The bytes [offset, offset + length) of a stream will never come, and why."""

    offset: int
    length: int
    reason: str


class Chunk(NamedTuple):
    """Consecutive bytes of a stream, with what a worker needs to place them.

    offset     of data[0] in the stream
    data       the bytes as they were written; empty for a chunk that only carries an end or a gap
    marks      arrival, one per read or group of records; lengths add up to len(data)
    started    of the writer, microseconds since the epoch: decides the bucket in a store
    common     ECS fields that are the same for the whole stream (see `Facts` in DESIGN.md 3.1):
               always in the chunk at offset 0 and in one carrying an end, else now and then
    """

    key: StreamKey
    kind: str
    offset: int
    data: bytes
    marks: tuple[Mark, ...]
    started: int
    common: Optional[dict[str, Any]] = None
    end: Optional[End] = None
    gaps: tuple[Gap, ...] = ()


class Record(NamedTuple):
    """A chunk as it travels: what Kafka calls a record."""

    key: bytes
    value: bytes
    headers: Headers


def encode(chunk: Chunk) -> Record:
    """Return the record of a chunk. Never fails for a chunk that `decode` gave."""
    headers: Headers = [
        ("schema", b"%d" % SCHEMA),
        ("content-type", CONTENT_TYPES[chunk.kind]),
        ("run", chunk.key.run.encode("utf-8", "surrogateescape")),
        ("writer", chunk.key.writer.encode("ascii")),
        ("stream", chunk.key.stream.encode("utf-8", "surrogateescape")),
        ("offset", b"%d" % chunk.offset),
        ("started", b"%d" % chunk.started),
        ("marks", _encode_marks(chunk.marks)),
        ("crc", b"%d" % zlib.crc32(chunk.data)),
    ]
    if chunk.common is not None:
        headers.append(("common", _json(chunk.common)))
    if chunk.end is not None:
        headers.append(("end", _json(chunk.end._asdict())))
    if chunk.gaps:
        headers.append(("gap", _json([list(gap) for gap in chunk.gaps])))
    return Record(record_key(chunk.key), chunk.data, headers)


def record_key(stream: StreamKey) -> bytes:
    """Return the key of the records of a stream: by it they stay in one partition, in order."""
    return f"{stream.writer}/{stream.stream}".encode("utf-8", "surrogateescape")


def decode(value: bytes, headers: Headers) -> Chunk:
    """Return the chunk of a record.

    Raises ChunkError (permanent: the record will not get better) when a header is missing,
    unreadable or of a newer schema, and when the bytes do not have the CRC they left with.
    """
    found = dict(headers)
    try:
        schema = int(found["schema"])
        if schema > SCHEMA:
            raise ChunkError(
                f"chunk of schema {schema}, this loghaul reads up to {SCHEMA}: upgrade the worker"
            )
        chunk = Chunk(
            StreamKey(_text(found["run"]), _text(found["writer"]), _text(found["stream"])),
            _KINDS[found["content-type"]],
            int(found["offset"]),
            value,
            _decode_marks(found["marks"]),
            int(found["started"]),
            json.loads(found["common"]) if "common" in found else None,
            End(**json.loads(found["end"])) if "end" in found else None,
            tuple(Gap(*gap) for gap in json.loads(found["gap"])) if "gap" in found else (),
        )
        crc = int(found["crc"])
    except (KeyError, ValueError, TypeError) as error:
        raise ChunkError(f"record is not a chunk: {type(error).__name__}: {error}") from error
    if zlib.crc32(value) != crc:
        raise ChunkError(f"bytes of {chunk.key} at {chunk.offset} were altered on the way")
    if sum(mark.length for mark in chunk.marks) != len(value) or chunk.offset < 0:
        raise ChunkError(f"marks of {chunk.key} at {chunk.offset} do not cover its bytes")
    return chunk


_KINDS = {content_type: kind for kind, content_type in CONTENT_TYPES.items()}


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True).encode()


def _encode_marks(marks: tuple[Mark, ...]) -> bytes:
    """Lengths and times, times as differences: decimal, so that a header can be read by eye."""
    parts, before = [], 0
    for length, time_us in marks:
        parts.append(b"%d:%d" % (length, time_us - before))
        before = time_us
    return b",".join(parts)


def _decode_marks(text: bytes) -> tuple[Mark, ...]:
    marks, time_us = [], 0
    for part in text.split(b",") if text else ():
        length, _, delta = part.partition(b":")
        time_us += int(delta)
        marks.append(Mark(int(length), time_us))
    return tuple(marks)
