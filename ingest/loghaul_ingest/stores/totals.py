"""Arithmetic that every store shares: what is covered, what is missing, facts joined over time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from loghaul.chunk import Gap
from loghaul_ingest.block import Extent, Facts, Head
from loghaul_ingest.stores.base import StreamRow

Span = tuple[int, int]


def covered(spans: Iterable[Span]) -> list[Span]:
    """Join (offset, length) spans, given by ascending offset, into disjoint ones."""
    joined: list[Span] = []
    for offset, length in spans:
        if not length:
            continue
        if joined and offset <= joined[-1][0] + joined[-1][1]:
            start, before = joined[-1]
            joined[-1] = (start, max(before, offset + length - start))
        else:
            joined.append((offset, length))
    return joined


def holes(pieces: Sequence[Span], end: int) -> tuple[Span, ...]:
    """Return what of [0, end) the disjoint ascending `pieces` leave out."""
    missing, position = [], 0
    for offset, length in pieces:
        if offset > position:
            missing.append((position, offset - position))
        position = offset + length
    if end > position:
        missing.append((position, end - position))
    return tuple(missing)


def extent(pieces: Sequence[Span]) -> Extent:
    """Return the extent of a stream of which the disjoint `pieces` are stored."""
    end = pieces[-1][0] + pieces[-1][1] if pieces else 0
    return Extent(end, holes(pieces, end))


def known_end(facts: Facts, stored_end: int) -> int:
    """Return how long a stream is as far as anybody knows: stored, ended, or declared a gap."""
    ends = [stored_end, *(gap.offset + gap.length for gap in facts.gaps)]
    if facts.end is not None:
        ends.append(facts.end.length)
    return max(ends)


def joined(old: Facts | None, new: Facts) -> Facts:
    """Return the facts after `new` arrived: an end is never taken back, gaps are joined."""
    if old is None:
        return new
    return Facts(
        new.stream,
        new.kind,
        new.started,
        new.common or old.common,
        new.end or old.end,
        joined_gaps((*old.gaps, *new.gaps)),
    )


def joined_gaps(gaps: Iterable[Gap]) -> tuple[Gap, ...]:
    """Return gaps by offset without overlap; of two reasons for a byte the first in order stays."""
    result: list[Gap] = []
    for gap in sorted(set(gaps)):
        end = gap.offset + gap.length
        start = max(gap.offset, result[-1].offset + result[-1].length) if result else gap.offset
        if start >= end:
            continue
        if result and result[-1].reason == gap.reason and start == sum(result[-1][:2]):
            result[-1] = result[-1]._replace(length=end - result[-1].offset)
        else:
            result.append(Gap(start, end - start, gap.reason))
    return tuple(result)


def open_gaps(gaps: Sequence[Gap], missing: Sequence[Span]) -> tuple[Gap, ...]:
    """Return the parts of gaps that are still missing: late bytes may have filled some."""
    return tuple(
        Gap(start, end - start, gap.reason)
        for gap in gaps
        for offset, length in missing
        if (start := max(gap.offset, offset)) < (end := min(sum(gap[:2]), offset + length))
    )


def by_start(row: StreamRow) -> tuple[int, str, str]:
    """Sort key of a run's streams: start of the writer, writer, name."""
    return facts_by_start(row.facts)


def facts_by_start(facts: Facts) -> tuple[int, str, str]:
    """Sort key of their facts: the same order."""
    return (facts.started, facts.stream.writer, facts.stream.stream)


def newest_first(head: Head) -> tuple[int, str, str, str, int]:
    """Sort key of candidates: by greatest time, then by identity, so that every page agrees."""
    return (-head.time_max, *head.stream, -head.offset)


def facts_of(head: Head) -> Facts:
    """Return facts for a stream of which only blocks came: better a bare stream than none."""
    return Facts(head.stream, head.kind, head.time_min, {})


def row(
    facts: Facts,
    pieces: Sequence[Span],
    *,
    lines: int,
    progress: int,
    levels: Mapping[str, int],
    time_min: int | None,
    time_max: int | None,
) -> StreamRow:
    """Return the row of a stream of which the disjoint `pieces` are stored."""
    stored_end = pieces[-1][0] + pieces[-1][1] if pieces else 0
    missing = holes(pieces, known_end(facts, stored_end))
    if facts.gaps:
        facts = replace(facts, gaps=open_gaps(facts.gaps, missing))
    stored = sum(length for _, length in pieces)
    return StreamRow(facts, stored, lines, progress, levels, time_min, time_max, missing)
