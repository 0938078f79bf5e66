"""The account a reader keeps of a writer's streams: how far each has come, and what a jump means.

Offsets alone tell what is missing (invariant 3 of `loghaul.spool.format`): a place beyond the end
of what came before is a gap, one before it was given already.
"""

from __future__ import annotations

import json

from loghaul.chunk import End, Gap, Mark
from loghaul.spool.declared import Declared
from loghaul.spool.entry import UNKNOWN, Entry
from loghaul.spool.format import COUNTER, END, GAP, SITE
from loghaul.spool.site import Site


class Account:
    """What was declared and read so far.

    streams    by number
    sites      call sites of log lines by number, as the current segment has declared them
    ends       of each stream, by number
    refusals   not yet closed by a later record: reason, and the end that the counter gives
    unseen     end of a stream nothing is known of yet; -1: wherever it is declared
    hole       reason of a jump that no record explains
    """

    def __init__(self) -> None:
        self.streams: dict[int, Declared] = {}
        self.sites: dict[int, Site] = {}
        self.ends: dict[int, int] = {}
        self.refusals: dict[int, tuple[str, int]] = {}
        self.unseen = 0
        self.hole = UNKNOWN

    def with_refusals(self) -> dict[int, int]:
        """Return the ends by stream number, counting what was refused behind the last record."""
        ends = dict(self.ends)
        for number, (_, end) in self.refusals.items():
            ends[number] = max(end, ends.get(number, 0))
        return ends

    def is_refused(self, number: int) -> bool:
        """Tell whether the last thing known of a stream is that bytes of it were refused."""
        return number in self.refusals

    def end_of(self, number: int) -> int:
        """Return how far a stream has come; -1: that is told by whatever comes next of it."""
        return self.ends.get(number, self.unseen)

    def data(
        self,
        known: Declared,
        offset: int,
        marks: tuple[Mark, ...],
        data: bytes,
        entries: list[Entry],
    ) -> None:
        """Take bytes of a stream, less what is known of them."""
        time_us = marks[0].time_us
        if self.end_of(known.number) != offset:
            repeated = self.bridge(known, offset, time_us, entries)
            if repeated:
                data = data[repeated:]
                offset, marks = offset + repeated, (Mark(len(data), time_us),)
        if data:
            entries.append(Entry(known.name, known.kind, offset, time_us, data, None, None, marks))
            self.ends[known.number] = offset + len(data)

    def bridge(self, known: Declared, offset: int, time_us: int, entries: list[Entry]) -> int:
        """Come to `offset` of a stream: a jump is a gap. Return how many bytes are known."""
        end = self.end_of(known.number)
        if offset > end >= 0:
            reason, _ = self.refusals.pop(known.number, (self.hole, 0))
            self.gap(known, end, offset - end, reason, time_us, entries)
        if offset >= end:
            self.ends[known.number] = offset
            return 0
        return end - offset

    def gap(
        self,
        known: Declared,
        offset: int,
        length: int,
        reason: str,
        time_us: int,
        entries: list[Entry],
    ) -> None:
        """Take bytes of a stream as missing."""
        gap = Gap(offset, length, reason)
        entries.append(Entry(known.name, known.kind, offset, time_us, b"", gap))
        self.ends[known.number] = offset + length

    def note(
        self,
        known: Declared,
        kind: int,
        number: int,
        offset: int,
        time_us: int,
        payload: bytes,
        entries: list[Entry],
    ) -> None:
        """Take what a record says of a stream without being bytes of it."""
        if kind == SITE:
            self.sites[number] = Site.decode(payload)
        elif kind == GAP:
            reason = payload[COUNTER.size :].decode("utf-8", "replace")
            self.refusals[known.number] = reason, offset + COUNTER.unpack_from(payload)[0]
        elif kind == END:
            body = json.loads(payload)
            end = End(offset, time_us, body["cause"], body["sha256"], body["detail"])
            entries.append(Entry(known.name, known.kind, offset, time_us, b"", None, end))
