"""Merging blocks in the database of a run, a few groups per transaction."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from loghaul.chunk import StreamKey
from loghaul_ingest.stores import compaction
from loghaul_ingest.stores.sqlite.blocks import StreamBlocks
from loghaul_ingest.stores.sqlite.codec import Codec
from loghaul_ingest.stores.sqlite.rows import find_stream

#: Bytes merged in one transaction: about 50 ms of work.
STEP_BYTES = 2 * 1024 * 1024


class Step(NamedTuple):
    """How far a compaction is: merged up to `offset`; so many blocks vanished in the last step."""

    offset: int
    vanished: int


def step(connection: sqlite3.Connection, stream: StreamKey, at: Step, codec: Codec) -> Step | None:
    """Merge the next groups behind `at` inside the open transaction; None when nothing is left."""
    found = find_stream(connection, stream)
    if found is None:
        return None
    blocks = StreamBlocks(connection, *found, codec)
    heads = blocks.heads(at.offset)
    vanished, done, repaired = 0, 0, False
    position = None
    for group in compaction.plan(heads):
        if done >= STEP_BYTES:
            position = group.heads[0].offset
            break
        vanished += blocks.replace(group)
        repaired = repaired or group.overlapping
        done += sum(head.length for head in group.heads)
    if done:
        blocks.recount(repaired)
    if position is None:
        return Step(1 << 62, vanished) if done else None
    return Step(position, vanished)
