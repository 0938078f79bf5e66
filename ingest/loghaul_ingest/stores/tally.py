"""Counting from counters: which blocks lie in one bucket whole, and which must be read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise

from loghaul.chunk import BLOB, StreamKey
from loghaul_ingest.block import Head
from loghaul_ingest.stores.base import Tally


def tally_of(
    heads: Iterable[Head], since: int | None, until: int | None, bucket_us: int
) -> Mapping[StreamKey, Tally]:
    """Return the tally of `heads`, see `base.Reader.tally`."""
    counts: dict[StreamKey, dict[tuple[int, str], int]] = {}
    straddling: dict[StreamKey, list[Head]] = {}
    ranges: dict[StreamKey, list[tuple[int, int]]] = {}
    for head in heads:
        if head.kind == BLOB or not head.lines or outside(head, since, until):
            continue
        counts.setdefault(head.stream, {})
        ranges.setdefault(head.stream, []).append((head.offset, head.length))
        bucket = head.time_min - head.time_min % bucket_us
        over_edge = (since is not None and head.time_min < since) or (
            until is not None and head.time_max >= until
        )
        if over_edge or head.time_max >= bucket + bucket_us:
            straddling.setdefault(head.stream, []).append(head)
        else:
            add(counts[head.stream], bucket, head)
    return {
        stream: Tally(
            found,
            sorted(straddling.get(stream, ()), key=lambda head: head.offset),
            _overlap(ranges[stream]),
        )
        for stream, found in counts.items()
    }


def _overlap(ranges: list[tuple[int, int]]) -> bool:
    ranges.sort()
    return any(start + length > following for (start, length), (following, _) in pairwise(ranges))


def outside(head: Head, since: int | None, until: int | None) -> bool:
    """Return whether no event of the block can be in [since, until)."""
    return (since is not None and head.time_max < since) or (
        until is not None and head.time_min >= until
    )


def add(counts: dict[tuple[int, str], int], bucket: int, head: Head) -> None:
    """Add the counters of a block that lies in one bucket."""
    rest = head.lines
    for level, count in head.levels.items():
        counts[bucket, level] = counts.get((bucket, level), 0) + count
        rest -= count
    if rest:
        counts[bucket, ""] = counts.get((bucket, ""), 0) + rest
