"""Merging blocks in the database of a run, a few groups per transaction."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from loghaul.chunk import StreamKey
from loghaul_ingest.block import MAX_BYTES
from loghaul_ingest.stores import compaction
from loghaul_ingest.stores.sqlite.blocks import StreamBlocks
from loghaul_ingest.stores.sqlite.codec import Codec, unpack_name
from loghaul_ingest.stores.sqlite.rows import find_stream, has_ended

#: Bytes merged in one transaction: about 50 ms of work.
STEP_BYTES = 2 * 1024 * 1024


#: A stream of so many blocks, each of them half of a full one in the mean, is worth merging.
_MANY, _SMALL_BYTES = 8, MAX_BYTES // 4


class Step(NamedTuple):
    """How far the compaction of a stream is.

    offset          merged up to there
    vanished, size  of the last step: so many blocks fewer, so many bytes merged
    done            nothing is left
    """

    offset: int
    vanished: int = 0
    size: int = 0
    done: bool = False


START = Step(0)


def step(connection: sqlite3.Connection, stream: StreamKey, at: Step, codec: Codec) -> Step:
    """Merge the next groups behind `at` inside the open transaction."""
    found = find_stream(connection, stream)
    if found is None:
        return Step(at.offset, done=True)
    blocks = StreamBlocks(connection, *found, codec)
    vanished, size, repaired = 0, 0, False
    position = None
    for group in compaction.plan(blocks.heads(at.offset)):
        if size >= STEP_BYTES:
            position = group.heads[0].offset
            break
        vanished += blocks.replace(group)
        repaired = repaired or group.overlapping
        size += sum(head.length for head in group.heads)
    if size:
        blocks.recount(repaired)
    return Step(position or 0, vanished, size, position is None)


def fragmented(connection: sqlite3.Connection, run: str) -> list[StreamKey]:
    """Return the streams of a run that has ended of which many small blocks are left."""
    if not has_ended(connection):
        return []
    rows = connection.execute(
        "SELECT writer, name FROM streams JOIN (SELECT stream, count(*) AS number, "
        "sum(length) AS size FROM blocks GROUP BY stream) ON stream = id "
        "WHERE number >= ? AND size < number * ? ORDER BY id",
        (_MANY, _SMALL_BYTES),
    )
    return [StreamKey(run, writer, unpack_name(name)) for writer, name in rows]
