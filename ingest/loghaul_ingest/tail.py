"""Where to begin reading a stream: its last lines, or the lines since a moment.

Both walk block heads, never bytes before the place that is looked for: the last 100 lines of a
file of 5 million cost what those of a short one cost.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from loghaul_ingest.block import Head
from loghaul_ingest.lines import Span
from loghaul_ingest.query import Query
from loghaul_ingest.stores.base import Reader, StreamRow
from loghaul_ingest.view import View, open_view

#: The first look back is at least this far.
WINDOW_BYTES = 256 * 1024
#: And later ones are at most this far: a head per block is held.
MOST_WINDOW_BYTES = 64 * 1024 * 1024


def last_lines(reader: Reader, row: StreamRow, count: int, collapse: bool) -> int:
    """Return an offset from which at least the last `count` lines of a stream are read.

    collapse    states of progress bars that were overwritten do not count as lines
    """
    stream = row.facts.stream
    reach = row.stored + sum(length for _, length in row.holes)
    # One more: the last line may have no newline yet, and is counted in no block then.
    count += 1
    shown = row.lines - row.progress if collapse else row.lines
    window = max(WINDOW_BYTES, 2 * count * row.stored // max(1, shown))
    while True:
        start = max(0, reach - window)
        heads = list(reader.heads(stream, start))
        if start == 0 or sum(_lines(head, collapse) for head in heads) >= count:
            return _walk(reader, row, heads, count, collapse)
        window *= 4


def _lines(head: Head, collapse: bool) -> int:
    return head.lines - head.progress if collapse else head.lines


def _walk(reader: Reader, row: StreamRow, heads: Sequence[Head], count: int, collapse: bool) -> int:
    """Go back from the end, block by block, to the one in which the first wanted line ends."""
    for head in reversed(heads):
        count -= _lines(head, collapse)
        if count > 0:
            continue
        view = _view(reader, row, head)
        if view is None:
            return head.offset
        spans = view.spans()
        if collapse:
            spans = [span for span in spans if not view.progress(span)]
        return view.offset_of(spans[-count]) if -count < len(spans) else head.offset
    return 0


def last_matching(
    reader: Reader, row: StreamRow, count: int, queries: Sequence[Query], collapse: bool
) -> int | None:
    """Return an offset from which the last `count` lines that all queries match are read.

    None when nothing of the stream can match. Goes back block by block, no further than needed.
    """
    matchers = [query.bind(row.facts) for query in queries]
    if any(matcher is None for matcher in matchers) or count <= 0:
        return None
    for head in _backwards(reader, row):
        view = _view(reader, row, head)
        if view is None:
            return head.offset
        spans = _shown(view, matchers, collapse)
        if len(spans) >= count:
            return view.offset_of(spans[-count])
        count -= len(spans)
    return 0


def _backwards(reader: Reader, row: StreamRow) -> Iterator[Head]:
    """Yield the heads of a stream, the last one first."""
    stop = row.stored + sum(length for _, length in row.holes)
    window = WINDOW_BYTES
    while stop > 0:
        start = max(0, stop - window)
        heads = list(reader.heads(row.facts.stream, start, stop))
        yield from reversed(heads)
        stop = min(start, heads[0].offset) if heads else start
        window = min(2 * window, MOST_WINDOW_BYTES)


def _shown(view: View, matchers: Sequence[Any], collapse: bool) -> list[Span]:
    spans: list[Span] = list(matchers[0].spans(view))
    for matcher in matchers[1:]:
        kept = set(matcher.spans(view))
        spans = [span for span in spans if span in kept]
    return [span for span in spans if not (collapse and view.progress(span))]


def since(reader: Reader, row: StreamRow, time_us: int) -> int | None:
    """Return the offset of the first line at or after a moment; None when there is none."""
    for head in reader.heads(row.facts.stream):
        if head.time_max < time_us:
            continue
        view = _view(reader, row, head)
        if view is None:
            return head.offset
        for span in view.spans():
            if view.time_of(span) >= time_us:
                return view.offset_of(span)
    return None


def _view(reader: Reader, row: StreamRow, head: Head) -> View | None:
    """Open a block; None when it was compacted away meanwhile."""
    for stored in reader.load([head.key]):
        return open_view(reader, row.facts, stored)
    return None
