"""Sealing: bytes of a stream become a block with everything that is needed to find them.

Pure: the same bytes, cut in the same place, give the same block, whoever seals them. What it says
of events it says of those that end in the block; the words, tokens and times also cover an
unfinished last line, because the stream may end there after all.
"""

from __future__ import annotations

from collections.abc import Sequence

from loghaul.chunk import BLOB, EVENTS, Mark
from loghaul_ingest import lines
from loghaul_ingest.block import MAX_HEAD_BYTES, Block, Facts, Head
from loghaul_ingest.census import Census, census
from loghaul_ingest.words import index_words, words


def seal(
    facts: Facts,
    offset: int,
    data: bytes,
    marks: Sequence[Mark],
    head: bytes = b"",
    position: int | None = None,
    ended: bool = False,
    *,
    head_length: int | None = None,
    head_time: int | None = None,
) -> Block:
    """Return the block of `data`, which stands at `offset` of a stream.

    marks        arrival of the bytes of `data`: lengths add up to len(data)
    head         bytes before `offset` of the event that began there and goes on in `data`; of more
                 than MAX_HEAD_BYTES the first
    position     last transport position that it holds
    ended        the stream ends here: an unfinished last line is an event
    head_length  bytes from the first of that event to `offset`; len(head) where it is not given
    head_time    arrival of the first byte of that event, microseconds; kept as a mark of no bytes
    """
    kind = facts.kind
    head = head[:MAX_HEAD_BYTES]
    if head and head_time is not None and not (marks and marks[0].length == 0):
        marks = (Mark(0, head_time), *marks)
    buffer = head + data if head else data
    whole = lines.last_end(buffer, kind, more=False)
    over = whole == len(buffer) or kind == BLOB
    number, states = lines.tally(buffer, kind, more=False)
    found = census(buffer if over else buffer[:whole], kind, number)
    tail = None if over else census(buffer[whole:], kind, 1)
    levels = dict(found.levels)
    if tail is not None and ended:
        number += 1
        levels = {
            name: found.levels.get(name, 0) + tail.levels.get(name, 0)
            for name in (*found.levels, *tail.levels)
        }
    every_word = b"" if kind == BLOB else words(buffer, kind)
    time_min, time_max = _times(kind, marks, found, tail, number)
    return Block(
        head=Head(
            stream=facts.stream,
            kind=kind,
            offset=offset,
            length=len(data),
            head=len(head) if head_length is None else head_length,
            time_min=time_min,
            time_max=time_max,
            lines=number,
            progress=states,
            levels=levels,
            position=position,
        ),
        data=data,
        marks=tuple(marks),
        words=index_words(every_word),
        words_high=index_words(_high_words(every_word, found, tail, whole)),
        fields=found.tokens | tail.tokens if tail is not None else found.tokens,
    )


def _high_words(every_word: bytes, found: Census, tail: Census | None, whole: int) -> bytes:
    parts = [every_word[start:end] for start, end in found.high]
    if tail is not None:
        parts += [every_word[whole + start : whole + end] for start, end in tail.high]
    return b"\n".join(parts)


def _times(
    kind: str, marks: Sequence[Mark], found: Census, tail: Census | None, number: int
) -> tuple[int, int]:
    """Return the least and greatest time of the events: what records say, or their arrival."""
    parts = [part for part in (found, tail) if part is not None]
    said = [part.times for part in parts if part.times is not None]
    if kind != EVENTS or not said or (number and any(part.untimed for part in parts)):
        arrived = [mark.time_us for mark in marks]
        if arrived:
            said.append((min(arrived), max(arrived)))
    if not said:
        return 0, 0
    return min(least for least, _ in said), max(greatest for _, greatest in said)
