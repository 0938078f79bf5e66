"""Where to begin reading a stream: its last lines, or the lines since a moment.

Both walk block heads, never bytes before the place that is looked for: the last 100 lines of a
file of 5 million cost what those of a short one cost.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Any

from loghaul_ingest.block import Head
from loghaul_ingest.errors import StoreDamaged
from loghaul_ingest.lines import Span
from loghaul_ingest.query import Query
from loghaul_ingest.stores.base import Reader, StreamRow
from loghaul_ingest.view import View, open_view

#: The first look back is at least this far.
WINDOW_BYTES = 256 * 1024
#: So many blocks are read before the index is asked, which has to name all there are.
BLOCKS_WITHOUT_INDEX = 32
#: And later ones are at most this far: a head per block is held.
MOST_WINDOW_BYTES = 64 * 1024 * 1024


def last_lines(reader: Reader, row: StreamRow, count: int, collapse: bool) -> int:
    """Return an offset from which at least the last `count` lines of a stream are read.

    collapse    states of progress bars that were overwritten do not count as lines
    """
    stream = row.facts.stream
    reach = row.reach
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
    reader: Reader,
    row: StreamRow,
    count: int,
    queries: Sequence[Query],
    collapse: bool,
    start: int = 0,
) -> list[tuple[View, Span]]:
    """Return the last `count` events behind `start` that all queries match, in order.

    Goes back block by block, no further than needed; soon only through those that the index names.
    """
    matchers = [query.bind(row.facts) for query in queries]
    if any(matcher is None for matcher in matchers) or count <= 0:
        return []
    found: list[tuple[View, Span]] = []
    reach = row.reach
    may_match: Callable[[Head], bool] | None = None
    for looked_at, head in enumerate(_backwards(reader, row)):
        if looked_at == BLOCKS_WITHOUT_INDEX:
            may_match = _proposed(reader, row, queries)
        if len(found) >= count or head.end <= start:
            break
        if may_match is not None and not may_match(head):
            continue
        view = _view(reader, row, head)
        for span in reversed(_shown(view, matchers, collapse, reach) if view is not None else []):
            assert view is not None
            if view.offset_of(span) >= start:
                found.append((view, span))
    return found[:count][::-1]


def _proposed(reader: Reader, row: StreamRow, queries: Sequence[Query]) -> Callable[[Head], bool]:
    """Ask the index: return a test of heads, true for all that could match every query."""
    stream = row.facts.stream
    tests = []
    for query in queries:
        try:
            found = reader.candidates(query.proposal(), [stream.run])
            # By range, not by key: blocks may be merged between this and the walk.
            ranges = sorted((head.offset, head.end) for head in found if head.stream == stream)
        except StoreDamaged:
            continue  # those that are still there are read as they come
        reach = list(accumulate((end for _, end in ranges), max))  # blocks may overlap
        tests.append(([start for start, _ in ranges], reach))

    def may_match(head: Head) -> bool:
        for starts, ends in tests:
            behind = bisect_left(starts, head.end)
            if not behind or ends[behind - 1] <= head.offset:
                return False
        return True

    return may_match


def _backwards(reader: Reader, row: StreamRow) -> Iterator[Head]:
    """Yield the heads of a stream, the last one first."""
    stop = row.reach
    window = WINDOW_BYTES
    while stop > 0:
        start = max(0, stop - window)
        heads = list(reader.heads(row.facts.stream, start, stop))
        yield from reversed(heads)
        stop = min(start, heads[0].offset) if heads else start
        window = min(2 * window, MOST_WINDOW_BYTES)


def _shown(view: View, matchers: Sequence[Any], collapse: bool, reach: int) -> list[Span]:
    spans: list[Span] = list(matchers[0].spans(view))
    for matcher in matchers[1:]:
        kept = set(matcher.spans(view))
        spans = [span for span in spans if span in kept]
    # The last state of all is shown: nothing overwrote it.
    last = reach - view.head.offset + len(view.before)
    return [span for span in spans if not collapse or span[1] == last or not view.progress(span)]


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
