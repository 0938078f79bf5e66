"""The events around an event, of the same stream, over the edges of blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from loghaul_ingest.block import MAX_BYTES
from loghaul_ingest.event import event
from loghaul_ingest.lines import Span
from loghaul_ingest.stores.base import Reader
from loghaul_ingest.view import View, open_view

Events = Sequence[dict[str, Any]]


def around(reader: Reader, view: View, span: Span, lines: int) -> tuple[Events, Events]:
    """Return up to `lines` events before and after an event, both in the order of the stream."""
    spans = view.spans()
    place = spans.index(span)
    before = [event(view, one) for one in spans[max(0, place - lines) : place]]
    after = [event(view, one) for one in spans[place + 1 : place + 1 + lines]]
    if len(before) < lines:
        first = view.offset_of(spans[max(0, place - lines)])
        earlier = _back(reader, view, first, lines - len(before))
        before = [event(other, one) for other, one in earlier] + before
    if len(after) < lines:
        shift = view.head.offset - len(view.before)
        later = _forth(reader, view, spans[-1][1] + shift, lines - len(after))
        after += [event(other, one) for other, one in later]
    return before, after


def _back(reader: Reader, view: View, position: int, lines: int) -> list[tuple[View, Span]]:
    """Events that end at or before `position`, in order."""
    found: list[tuple[View, Span]] = []
    reach, window = position, 2 * MAX_BYTES
    while reach > 0 and len(found) < lines:
        start = max(0, reach - window)
        heads = [head for head in reader.heads(view.facts.stream, start, reach)]
        for stored in reversed(list(reader.load([head.key for head in heads]))):
            other = open_view(reader, view.facts, stored)
            for one in reversed(other.spans()):
                if other.head.offset - len(other.before) + one[1] > position:
                    continue
                position = other.offset_of(one)
                found.append((other, one))
                if len(found) == lines:
                    return found[::-1]
        reach, window = start, window * 2
    return found[::-1]


def _forth(reader: Reader, view: View, position: int, lines: int) -> Iterator[tuple[View, Span]]:
    """Events that start at or behind `position`, in order."""
    for head in reader.heads(view.facts.stream, position):
        for stored in reader.load([head.key]):
            other = open_view(reader, view.facts, stored)
            shift = other.head.offset - len(other.before)
            for one in other.spans():
                if other.offset_of(one) < position:
                    continue
                position = shift + one[1]
                yield other, one
                lines -= 1
                if not lines:
                    return
