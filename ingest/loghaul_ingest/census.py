"""What a block's bytes say about their events, counted without a loop over lines.

One compiled expression gives what is to be known of every line; equal answers are counted in C,
and each distinct one is looked at once. Only events at warning and above are located.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import pairwise
from operator import itemgetter
from typing import NamedTuple

from loghaul.chunk import EVENTS, TEXT
from loghaul_ingest import layouts, levels, lines, recognise, records
from loghaul_ingest.lines import Span
from loghaul_ingest.times import micros
from loghaul_ingest.tokens import Collected

_first = itemgetter(0)


class Census(NamedTuple):
    """levels    events per level
    high      spans of the events at warning and above
    tokens    what can be asked by value, see `tokens`
    times     least and greatest time that the records say; None where lines do not say it
    untimed   some record says none: its time is the one of its arrival
    """

    levels: Mapping[str, int]
    high: list[Span]
    tokens: frozenset[str]
    times: tuple[int, int] | None = None
    untimed: bool = True


def census(data: bytes, kind: str, spans: int) -> Census:
    """Return what `data` says, which is `spans` whole events (the last may lack its terminator)."""
    if kind == TEXT:
        return _of_text(data)
    if kind == EVENTS:
        return _of_events(data, spans)
    return Census({}, [], frozenset())


def _of_text(data: bytes) -> Census:
    text = b"\n" + layouts.prepared(data)
    found = [(match[layouts.HEADER], match.start()) for match in layouts.line().finditer(text)]
    counts: Counter[str] = Counter()
    collected = Collected()
    high: set[bytes] = set()
    for header, number in Counter(map(_first, found)).items():
        said = layouts.said(header)
        level = said.level
        if said.record is not None:
            fields = records.fields(said.record, own=False) or {}
            collected.add_fields(fields.items())
            level = fields.get("log.level")
        else:
            collected.add_said(said)
        if level is not None:
            counts[level] += number
            collected.add("level", level)
            if levels.severity(level) >= levels.HIGH:
                high.add(header)
    starts = [start for header, start in found if header in high] if high else []
    return Census(
        counts,
        [(start, recognise.text_end(data, text, start + 1)) for start in starts],
        collected.tokens(),
    )


def _of_events(data: bytes, spans: int) -> Census:
    found = recognise.OWN.findall(b"\n" + data)
    if len(found) != spans or not found:
        return _one_by_one(data)
    times, names, loggers, errors, extras, numbers = zip(*found, strict=True)
    if not _real_dates(times):
        return _one_by_one(data)
    collected = Collected()
    counts: Counter[str] = Counter()
    high: set[tuple[bytes, bytes]] = set()
    for (name, number), times_said in Counter(zip(names, numbers, strict=True)).items():
        level = levels.canonical(_text(name))
        counts[level] += times_said
        collected.add("level", level)
        if levels.severity(level, int(number)) >= levels.HIGH:
            high.add((name, number))
    for logger in set(loggers) - {b""}:
        collected.add("logger", _text(logger))
    for error in set(errors) - {b""}:
        collected.add("error.type", _text(error))
    for extra in set(extras) - {b""}:
        parsed = records.parse(b'{"extra":' + extra + b"}")
        if parsed is None:
            return _one_by_one(data)
        collected.add_fields(records.flatten(parsed))
    least, greatest = micros(min(times).decode()), micros(max(times).decode())
    assert least is not None and greatest is not None
    return Census(
        counts,
        _high_events(data, _times_of(found, high)),
        collected.tokens(),
        (least, greatest),
        False,
    )


def _high_events(data: bytes, said: Iterable[bytes]) -> list[Span]:
    """Locate the high records by their times, in order: long needles are found quickly."""
    text, at, found = b"\n" + data, 0, []
    for time in said:
        needle = b'\n{"@timestamp":"' + time
        while (at := text.find(needle, at)) >= 0:
            match = recognise.OWN.match(text, at)
            start, at = at, at + 1
            if match and _severity(match) >= levels.HIGH:
                found.append((start, (text.find(b"\n", at) + 1 or len(text) + 1) - 1))
                break
    return [(start, min(end, len(data))) for start, end in found]


def _times_of(
    found: Iterable[tuple[bytes, ...]], high: Collection[tuple[bytes, bytes]]
) -> Iterable[bytes]:
    return [said[0] for said in found if (said[1], said[5]) in high] if high else ()


def _severity(match: re.Match[bytes]) -> int:
    return levels.severity(recognise.own_level(match), int(match[6]))


def _one_by_one(data: bytes) -> Census:
    """Records that our own writer did not write are parsed, each for itself."""
    counts: Counter[str] = Counter()
    collected = Collected()
    high, times, untimed = [], [], False
    for start, end in pairwise([0, *lines.ends(data + b"\n", EVENTS)]):
        fields = recognise.fields_of(data[start:end], EVENTS)
        collected.add_fields(fields.items())
        time = recognise.record_time(data[start:end])
        if time is None:
            untimed = True
        else:
            times.append(time)
        level = fields.get("log.level")
        if level is not None:
            counts[level] += 1
        if levels.severity(level, fields.get("event.severity")) >= levels.HIGH:
            high.append((start, min(end, len(data))))
    least_greatest = (min(times), max(times)) if times else None
    return Census(counts, high, collected.tokens(), least_greatest, untimed)


def _real_dates(times: Sequence[bytes]) -> bool:
    """Whether every date is one of the calendar: the expression lets the 31st of June pass."""
    dates = {min(times)[:10], max(times)[:10]}
    if len(dates) > 1:
        dates = {time[:10] for time in times}
    return all(micros(date.decode() + "T00:00:00Z") is not None for date in dates)


def _text(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")
