"""A block as OpenSearch holds it: its head packed, its bytes and marks packed.

`head` is read from doc values, so that a list of blocks touches no bytes. `content` is one stored
field, so that the bytes of a block are one read: head, marks, and a zstd frame with a checksum.
Names are packed as they are; a lone surrogate is one of JSON's escapes.
"""

from __future__ import annotations

import json
import struct
import threading
from base64 import b64encode
from binascii import Error as BadBase64
from binascii import a2b_base64
from typing import Any

import orjson
import zstandard

from loghaul.chunk import StreamKey
from loghaul_ingest.block import Block, Head
from loghaul_ingest.errors import StoreDamaged
from loghaul_ingest.stores.base import Stored
from loghaul_ingest.stores.sqlite.codec import Codec

#: Version, length of the head, length of the marks.
_LAYOUT = struct.Struct("<BII")
_VERSION = 1
_FROM_URL = bytes.maketrans(b"-_", b"+/")
_local = threading.local()


def pack_head(head: Head) -> bytes:
    """Return a head packed."""
    return to_json(
        [
            *head.stream,
            head.kind,
            head.offset,
            head.length,
            head.head,
            head.time_min,
            head.time_max,
            head.lines,
            head.progress,
            dict(head.levels),
            head.position,
        ]
    )


def unpack_head(packed: bytes) -> Head:
    """Return the head again."""
    run, writer, stream, *rest = from_json(packed)
    return Head(StreamKey(run, writer, stream), *rest)


def pack(block: Block, head: bytes) -> bytes:
    """Return head, marks and bytes of a block, in base64."""
    codec = _codec()
    marks = codec.pack_marks(block.marks)
    frame = codec.pack(block.data)
    return b64encode(_LAYOUT.pack(_VERSION, len(head), len(marks)) + head + marks + frame)


def unpack(content: str) -> Stored:
    """Return the block again. Raises StoreDamaged when it was altered."""
    head: Head | None = None
    try:
        raw = a2b_base64(content)
        version, head_length, marks_length = _LAYOUT.unpack_from(raw)
        if version != _VERSION:
            raise StoreDamaged(f"a block is of version {version}: a newer loghaul wrote it")
        at = _LAYOUT.size + head_length
        head = unpack_head(raw[_LAYOUT.size : at])
        codec = _codec()
        marks = codec.unpack_marks(raw[at : at + marks_length])
        return Stored(head, codec.unpack(raw[at + marks_length :]), marks)
    except (BadBase64, ValueError, TypeError, struct.error, zstandard.ZstdError) as error:
        place = f"{head.stream} at {head.offset}" if head else "a block"
        raise StoreDamaged(f"{place} is damaged in OpenSearch: {error}") from error


def decode(text: str) -> bytes:
    """Return what stands in base64, in either alphabet, padded or not."""
    raw = text.encode("ascii").translate(_FROM_URL)
    return a2b_base64(raw + b"=" * (-len(raw) % 4))


def to_json(value: Any) -> bytes:
    """Return any value as JSON: surrogates and large numbers too."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value, separators=(",", ":")).encode("ascii")


def from_json(raw: bytes) -> Any:
    """Return the value again."""
    try:
        return orjson.loads(raw)
    except ValueError:
        return json.loads(raw)


def _codec() -> Codec:
    """Return this thread's codec."""
    if not hasattr(_local, "codec"):
        _local.codec = Codec()
    codec: Codec = _local.codec
    return codec
