"""What a writer that is no longer there has left: streams, their ends, and whether it ended."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from loghaul.spool.budget import allocated_in
from loghaul.spool.declared import Declared
from loghaul.spool.digest import new_digest
from loghaul.spool.format import SEGMENT_HEADER_BYTES, START, Position
from loghaul.spool.reader import SpoolReader
from loghaul.spool.segment import segment_numbers

#: Digests are made again from at most so many bytes; beyond, that would take too long.
REHASH_BYTES = 64 * 1024 * 1024


class Survey(NamedTuple):
    """streams and ends by stream number; segment: the last one that exists; last_us: of the last
    record; digests: hash objects of the streams that are whole here."""

    streams: list[Declared]
    ends: list[int]
    segment: int
    ended: bool
    last_us: int
    digests: dict[int, Any]


def survey(directory: Path, *, digests: bool = False) -> Survey:
    """Read what is needed of a directory nobody writes to.

    The last segments are enough for the ends: each begins with all declarations. The last may
    have been killed before it had them, so the search begins two before it.
    """
    numbers = segment_numbers(directory)
    rehash = digests and numbers[:1] == [1] and allocated_in(directory) <= REHASH_BYTES
    begin = START if rehash or not numbers[3:] else Position(numbers[-3], SEGMENT_HEADER_BYTES)
    reader = SpoolReader(directory, begin)
    reader.conclude()
    hashes: dict[str, Any] = {}
    broken: set[str] = set()
    last_us = reader.started
    while True:
        entries = reader.read()
        if not entries:
            break
        for entry in entries:
            last_us = max(last_us, entry.time_us)
            if entry.gap is not None:
                broken.add(entry.stream)
            if rehash:
                hashes.setdefault(entry.stream, new_digest()).update(entry.data)
    reader.close()
    streams = sorted(reader.streams.values())
    ends = reader.ends_with_refusals()
    return Survey(
        streams,
        [max(ends.get(declared.number, 0), 0) for declared in streams],
        numbers[-1] if numbers else 0,
        reader.ended,
        last_us,
        {
            declared.number: hashes.get(declared.name, new_digest())
            for declared in streams
            if rehash
            and declared.digest
            and declared.name not in broken
            and not reader.is_refused(declared.number)
        },
    )
