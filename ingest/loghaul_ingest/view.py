"""A view of a block: its events, computed when they are asked for.

`buffer` is what stands before the block of its first event (`before`), then the block's bytes. A
span is (start, end) of an event in the buffer, `end` behind its terminator. An event is one of the
view when it ends in the block; an unfinished last line is one when the stream ends there.
Positions in `words` and `buffer` are the same. Not for use by several threads.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from functools import cached_property
from itertools import accumulate
from typing import Any

from loghaul.chunk import EVENTS, TEXT, Mark
from loghaul_ingest import levels, lines, recognise
from loghaul_ingest import words as words_module
from loghaul_ingest.block import MAX_HEAD_BYTES, Facts, Head
from loghaul_ingest.lines import Span
from loghaul_ingest.stores.base import Reader, Stored


class View:
    """The events that end in a block. `before`: its head's bytes, at most MAX_HEAD_BYTES."""

    def __init__(
        self, facts: Facts, head: Head, data: bytes, marks: Sequence[Mark], before: bytes = b""
    ) -> None:
        self.facts = facts
        self.head = head
        self.kind = head.kind
        self.data = data
        self.marks = marks
        self.before = before
        self.buffer = before + data if before else data
        self._returns = self.kind == TEXT and b"\r" in self.buffer

    @cached_property
    def words(self) -> bytes:
        """`words.words` of the buffer: bytes of equal length."""
        return words_module.words(self.buffer, self.kind)

    @cached_property
    def end(self) -> int:
        """Where the last event ends in the buffer; what is behind it ends in a later block."""
        whole = lines.last_end(self.buffer, self.kind, more=False)
        if whole < len(self.buffer) and self.kind in (TEXT, EVENTS) and self._tail_is_event(whole):
            return len(self.buffer)
        return whole

    def spans(self) -> list[Span]:
        """Return the spans of all events, in order."""
        return self._spans

    @cached_property
    def _spans(self) -> list[Span]:
        found = lines.spans(self.buffer, self.kind, more=False)
        last = found[-1][1] if found else 0
        if last < self.end:
            found.append((last, self.end))
        return found

    def span_at(self, position: int) -> Span | None:
        """Return the event that has the byte at `position` of the buffer, None where none has."""
        if not 0 <= position < self.end:
            return None
        buffer = self.buffer
        if not self._returns:
            start = buffer.rfind(b"\n", 0, position) + 1
            return start, buffer.find(b"\n", position) + 1 or len(buffer)
        if buffer[position] == 10 and position and buffer[position - 1] == 13:
            position -= 1
        start = buffer.rfind(b"\n", 0, position) + 1
        start = buffer.rfind(b"\r", start, position) + 1 or start
        end = buffer.find(b"\n", position) + 1 or len(buffer)
        state = buffer.find(b"\r", position, end) + 1
        return start, (state if state and buffer[state : state + 1] != b"\n" else end)

    def offset_of(self, span: Span) -> int:
        """Return the offset of the event's first byte in the stream."""
        if span[0] < len(self.before) or (span[0] == 0 and self.head.head):
            return self.head.offset - self.head.head + span[0]
        return self.head.offset + span[0] - len(self.before)

    def time_of(self, span: Span) -> int:
        """Return the event's time, microseconds: a record's own, else arrival of its first byte."""
        if self.kind == EVENTS:
            said = recognise.record_time(self.buffer[span[0] : span[1]])
            if said is not None:
                return said
        if not self.marks:
            return self.head.time_min
        position = span[0] - len(self.before)
        if position < 0 or (span[0] == 0 and self.head.head):
            return self.marks[0].time_us
        found = bisect_right(self._mark_ends, position)
        return self.marks[min(found, len(self.marks) - 1)].time_us

    def level_of(self, span: Span) -> str | None:
        """Return the event's own level, None where it says none."""
        return self._levels.get(span[0])

    def level_lines(self) -> list[recognise.LevelLine]:
        """Return (start, end, level) of the events that have one, in order."""
        return self._level_lines

    def severity_of(self, span: Span) -> int:
        """Return Python's number of the event's level; of a name without order the record's own."""
        level = self.level_of(span)
        number = levels.severity(level)
        if number or self.kind != EVENTS:
            return number
        return levels.severity(level, self._fields(span).get("event.severity"))

    def fields(self, span: Span) -> dict[str, Any]:
        """Return the ECS fields that the event itself carries (`recognise.fields_of`)."""
        return dict(self._fields(span))

    def progress(self, span: Span) -> bool:
        """Return whether the event is a state that the next one overwrote."""
        return self.kind == TEXT and self.buffer[span[1] - 1 : span[1]] == b"\r"

    def text(self, span: Span) -> bytes:
        """Return the event's bytes without its terminator."""
        found = self.buffer[span[0] : span[1]]
        if self.kind != TEXT:
            return found.removesuffix(b"\n")
        if found.endswith(b"\n"):
            return found[:-2] if found.endswith(b"\r\n") else found[:-1]
        return found.removesuffix(b"\r")

    def _fields(self, span: Span) -> dict[str, Any]:
        found = self._fields_cache.get(span[0])
        if found is None:
            found = recognise.fields_of(self.buffer[span[0] : span[1]], self.kind)
            self._fields_cache[span[0]] = found
        return found

    @cached_property
    def _fields_cache(self) -> dict[int, dict[str, Any]]:
        return {}

    @cached_property
    def _level_lines(self) -> list[recognise.LevelLine]:
        whole = self.buffer if self.end == len(self.buffer) else self.buffer[: self.end]
        return recognise.level_lines(whole, self.kind)

    @cached_property
    def _levels(self) -> dict[int, str]:
        return {start: level for start, _, level in self._level_lines}

    @cached_property
    def _mark_ends(self) -> list[int]:
        return list(accumulate(mark.length for mark in self.marks))

    def _tail_is_event(self, whole: int) -> bool:
        """The head says so, or the stream was found to end here after the block was sealed."""
        end = self.facts.end
        if end is not None and end.length == self.head.end:
            return True
        return self.head.lines > lines.count(self.buffer, self.kind, more=False)


def open_view(reader: Reader, facts: Facts, stored: Stored) -> View:
    """Return the view of a stored block; fetches the beginning of its first event if it needs it.

    What of that beginning is not there (deleted, not yet) is left out.
    """
    head = stored.head
    view = View(facts, head, stored.data, stored.marks)
    if not head.head or not view.end:
        return view
    start = head.offset - head.head
    before = _bytes(reader, facts, start, min(head.offset, start + MAX_HEAD_BYTES))
    return View(facts, head, stored.data, stored.marks, before)


def _bytes(reader: Reader, facts: Facts, start: int, end: int) -> bytes:
    """Return the bytes [start, end) of a stream as far as they are stored without a hole."""
    parts, position = [], start
    wanted = [head.key for head in reader.heads(facts.stream, start, end)]
    for stored in reader.load(wanted):
        if stored.head.offset > position:
            break
        part = stored.data[position - stored.head.offset : end - stored.head.offset]
        parts.append(part)
        position += len(part)
    return b"".join(parts)
