"""What a line says about itself: its level, its logger, its error, the fields of its JSON.

`fields_of` reads one line; `level_lines` finds the events with a level in a whole block, by one
compiled expression and without a loop over the others. The two agree for every line, and for
every cut of a stream into blocks: a level is the line's own, never its neighbour's.
"""

from __future__ import annotations

import re
from typing import Any

from loghaul.chunk import EVENTS, TEXT
from loghaul_ingest import layouts, levels, records
from loghaul_ingest.layouts import Said, prepared
from loghaul_ingest.times import micros

_STRING = r'"[^"\\\n]*(?:\\.[^"\\\n]*)*"'
_PLAIN = r'"([^"\\\n]{1,512})"'

#: A record as our own writer writes it: time, level, logger, error type, extra, severity. One that
#: does not match is right all the same, only slower.
OWN = re.compile(
    (
        r'\n\{"@timestamp":"(\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])'
        r'T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d\.\d{6}Z)",'
        rf'"log\.level":{_PLAIN},"message":{_STRING}(?:,"log\.logger":{_PLAIN})?'
        rf'(?:,"error\.type":{_PLAIN}(?:,"error\.message":{_STRING})?'
        rf'(?:,"error\.stack_trace":{_STRING})?)?'
        r'(?:,"extra":(\{(?:[^{}\n]*+\}(?=,"event\.)|[^\n]*?\})))?,"event\.severity":(\d{1,3})(?=[,}])'
    ).encode(),
)

_TIMED = b'{"@timestamp":"'

#: (start, end, level): `end` is behind the terminator.
LevelLine = tuple[int, int, str]


def fields_of(line: bytes, kind: str) -> dict[str, Any]:
    """Return the ECS fields that a line (with or without its terminator) itself carries.

    Text: log.level, log.logger, error.type where its layout says them; a JSON object also message
    and everything else in it. Events: the record, flat. A key is there only when it has a value.
    """
    line = line.rstrip(b"\r\n") if kind == TEXT else line.rstrip(b"\n")
    if kind == EVENTS:
        return _record_fields(line)
    if kind != TEXT:
        return {}
    match = layouts.line().match(b"\n" + prepared(line))
    if match is None:
        return {}
    said = layouts.said(match[layouts.HEADER])
    if said.record is not None:
        return records.fields(said.record, own=False) or {}
    return _said_fields(said)


def level_lines(data: bytes, kind: str) -> list[LevelLine]:
    """Return the events in `data` that have a level, in order.

    `data` begins with an event; a last one without terminator is looked at as well.
    """
    if kind == EVENTS:
        return _own_level_lines(data)
    if kind != TEXT:
        return []
    text = b"\n" + prepared(data)
    found = []
    for match in layouts.line().finditer(text):
        said = layouts.said(match[layouts.HEADER])
        level = said.level
        start = match.start()
        if said.record is not None:
            level = record_level(said.record)
        if level is not None:
            found.append((start, text_end(data, text, match.end()), level))
    return found


def record_level(record: bytes) -> str | None:
    """Return the level of a JSON object in a text stream."""
    return (records.fields(record, own=False) or {}).get("log.level")


def record_time(line: bytes) -> int | None:
    """Return the time that a record of an events stream says, microseconds; None: it says none.

    One that begins as ours do is read without parsing the rest of it.
    """
    if line.startswith(_TIMED):
        said = line[len(_TIMED) : line.find(b'"', len(_TIMED), len(_TIMED) + 40)]
        time_us = micros(said.decode("ascii", "replace"))
        if time_us is not None:
            return time_us
    return micros((records.fields(line, own=True) or {}).get("@timestamp"))


def own_level(match: re.Match[bytes]) -> str:
    """Return the level of a record that OWN matched."""
    return levels.canonical(match[2].decode("utf-8", "backslashreplace"))


def _record_fields(line: bytes) -> dict[str, Any]:
    fields = records.fields(line, own=True) or {}
    if match := OWN.match(b"\n" + line):
        # The expression reads the first of two equal keys, a parser the last.
        fields["log.level"] = own_level(match)
        fields["@timestamp"] = match[1].decode()
    return fields


def _own_level_lines(data: bytes) -> list[LevelLine]:
    found, at = [], 0
    for match in OWN.finditer(b"\n" + data):
        start = match.start()
        if at < start:
            found += _foreign_level_lines(data, at, start)
        at = data.find(b"\n", match.end() - 1) + 1 or len(data)
        found.append((start, at, own_level(match)))
    if at < len(data):
        found += _foreign_level_lines(data, at, len(data))
    return found


def _foreign_level_lines(data: bytes, start: int, stop: int) -> list[LevelLine]:
    """Records that our writer did not write are parsed one by one."""
    found = []
    while start < stop:
        end = data.find(b"\n", start) + 1 or len(data)
        level = (records.fields(data[start:end], own=True) or {}).get("log.level")
        if level is not None:
            found.append((start, end, level))
        start = end
    return found


def _said_fields(said: Said) -> dict[str, Any]:
    values = {"log.level": said.level, "log.logger": said.logger, "error.type": said.error_type}
    return {key: value for key, value in values.items() if value is not None}


def text_end(data: bytes, text: bytes, at: int) -> int:
    """Return where the line ends in `data` that has `at` in `text`, which is one byte longer."""
    end = text.find(b"\n", at)
    if end < 0:
        return len(data)
    return end + 1 if data[end - 1 : end + 1] == b"\r\n" else end
