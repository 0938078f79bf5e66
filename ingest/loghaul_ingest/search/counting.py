"""Counts, histograms and facets: exact, and with how far they got where somebody stopped them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, repeat
from typing import Any, NamedTuple

from loghaul_ingest import recognise
from loghaul_ingest.block import Head
from loghaul_ingest.errors import UsageError
from loghaul_ingest.lines import Span
from loghaul_ingest.query import Query, fields
from loghaul_ingest.query.values import as_text
from loghaul_ingest.search.catalog import Bound
from loghaul_ingest.search.walking import Matched, Walk, Watcher, scope
from loghaul_ingest.stores.base import Reader
from loghaul_ingest.view import View


class Count(NamedTuple):
    """How many events match. `searched_back_to`: None, or where a watcher stopped it."""

    total: int
    searched_back_to: int | None


class Histogram(NamedTuple):
    """Events per bucket (its start, microseconds), ascending, empty ones left out.

    levels   (bucket, level or "") -> events; empty where it was not asked for
    """

    counts: Mapping[int, int]
    levels: Mapping[tuple[int, str], int]
    searched_back_to: int | None


class Facets(NamedTuple):
    """The most frequent values of each field, most frequent first; None: events without one."""

    values: Mapping[str, Sequence[tuple[str | None, int]]]
    total: int
    searched_back_to: int | None


def count(
    reader: Reader,
    query: Query,
    runs: Sequence[str] | None = None,
    since: int | None = None,
    until: int | None = None,
    watch: Watcher | None = None,
) -> Count:
    """Return how many events match in [since, until)."""
    walk = Walk(reader, scope(query.tree, runs, since, until), watch=watch)
    total = sum(sum(counted.counts.values()) for counted in walk.counted())
    total += walk.total()
    return Count(total, walk.searched_back_to)


def histogram(
    reader: Reader,
    query: Query,
    bucket_us: int,
    runs: Sequence[str] | None = None,
    since: int | None = None,
    until: int | None = None,
    by_level: bool = False,
    watch: Watcher | None = None,
) -> Histogram:
    """Return how many events match per bucket of time, buckets counted from the epoch.

    by_level    also per level: costs a look at the level of every hit
    """
    if bucket_us <= 0:
        raise UsageError("a bucket of a histogram must be longer than nothing: try 1m")
    walk = Walk(reader, scope(query.tree, runs, since, until), bucket_us, watch)
    found: Counter[tuple[int, str]] = Counter()
    for counted in walk.counted():
        found.update(counted.counts)
    for matched in walk.matched():
        _into_buckets(walk, matched, bucket_us, by_level, found)
    counts: Counter[int] = Counter()
    for (bucket, _), number in found.items():
        counts[bucket] += number
    levels = dict(sorted(found.items())) if by_level else {}
    return Histogram(dict(sorted(counts.items())), levels, walk.searched_back_to)


def _into_buckets(
    walk: Walk, matched: Matched, bucket_us: int, by_level: bool, found: Counter[tuple[int, str]]
) -> None:
    view = matched.view
    if not by_level and (bucket := _only_bucket(view.head, bucket_us)) is not None:
        found[bucket, ""] += walk.count(matched)
        return
    spans = walk.spans(matched)
    levels: Iterable[str | None] = levels_of(view, spans) if by_level else repeat(None)
    for span, level in zip(spans, levels, strict=False):
        time = view.time_of(span)
        found[time - time % bucket_us, level or ""] += 1


def _only_bucket(head: Head, bucket_us: int) -> int | None:
    bucket = head.time_min - head.time_min % bucket_us
    return bucket if head.time_max < bucket + bucket_us else None


def facets(
    reader: Reader,
    query: Query,
    names: Sequence[str],
    runs: Sequence[str] | None = None,
    since: int | None = None,
    until: int | None = None,
    top: int = 10,
    watch: Watcher | None = None,
) -> Facets:
    """Return the `top` most frequent values of fields (short or ECS names) among what matches.

    Raises UsageError for a name that is no field, or one with too many values to count.
    """
    wanted = {name: _field(name) for name in names}
    of_line = [field for field in wanted.values() if _needs_line(field)]
    walk = Walk(reader, scope(query.tree, runs, since, until), watch=watch)
    found: dict[str, Counter[str | None]] = {field: Counter() for field in wanted.values()}
    total = 0
    if not of_line:
        for counted in walk.counted():
            for (_, level), number in counted.counts.items():
                total += number
                _add(found, counted.bound, level or None, number)
    for matched in walk.matched():
        total += _take(walk, matched, found, of_line)
    values = {name: _top(found[field], top) for name, field in wanted.items()}
    return Facets(values, total, walk.searched_back_to)


def _take(
    walk: Walk, matched: Matched, found: dict[str, Counter[str | None]], of_line: list[str]
) -> int:
    """Add the hits of a block to the facets; return how many they are."""
    view, bound = matched.view, matched.bound
    if fields.LEVEL not in found and not of_line:
        number = walk.count(matched)
        _add(found, bound, None, number)
        return number
    spans = walk.spans(matched)
    if fields.LEVEL in found:
        for level, number in Counter(levels_of(view, spans)).items():
            found[fields.LEVEL][level] += number
    for field in of_line:
        for span in spans:
            for value in _values(fields.line_value(field, view.fields(span))):
                found[field][value] += 1
    for field in found:
        if fields.of_stream(field):
            found[field][_fact(bound, field)] += len(spans)
    return len(spans)


def levels_of(view: View, spans: Sequence[Span]) -> list[str | None]:
    """Return the level of each event: of few, by looking at these alone, all at once."""
    if len(spans) * 2 > view.head.lines:
        return [view.level_of(span) for span in spans]
    lines = [view.buffer[start:end] for start, end in spans]
    found = {start: level for start, _, level in recognise.level_lines(b"".join(lines), view.kind)}
    starts = accumulate(map(len, lines), initial=0)
    return [found.get(start) for start, _ in zip(starts, lines, strict=False)]


def _add(
    found: dict[str, Counter[str | None]], bound: Bound, level: str | None, number: int
) -> None:
    for field, counts in found.items():
        counts[level if field == fields.LEVEL else _fact(bound, field)] += number


def _fact(bound: Bound, field: str) -> str | None:
    facts = bound.facts
    own = {"run.id": facts.stream.run, "writer": facts.stream.writer, "event.kind": facts.kind}
    value = own.get(field, fields.stream_value(field, facts.common))
    return None if value is None else as_text(value)


def _values(value: Any) -> list[str | None]:
    if isinstance(value, list):
        return [as_text(item) for item in value]
    return [None if value is None else as_text(value)]


def _top(counts: Counter[str | None], top: int) -> list[tuple[str | None, int]]:
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0] is None, item[0] or ""))
    return [(value, number) for value, number in ranked if number][:top]


def _field(name: str) -> str:
    field = fields.resolve(name)
    if field is None or field in (fields.TIME, "since", "until"):
        raise UsageError(
            f"{name} is no field to count by: try level, logger, file, node, rank, run, host"
        )
    return field


def _needs_line(field: str) -> bool:
    return not fields.of_stream(field) and field != fields.LEVEL
