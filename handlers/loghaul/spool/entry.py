"""What a reader of the spool gives: bytes of a stream, a hole in it, or its end."""

from __future__ import annotations

from typing import NamedTuple, Optional

from loghaul.chunk import End, Gap, Mark

#: Reasons of gaps that a reader finds, beside those that the writer gives.
LOST = "record damaged"
DROPPED = "dropped: spool full"
UNKNOWN = "not recorded"


class Entry(NamedTuple):
    """What came of a stream at a place: bytes, a gap, or the end.

    stream     name; with `kind` ("text", "events", "blob") and `offset`, the place of data[0]
    time_us    of arrival of the first byte
    data       bytes; records that follow each other directly are one entry
    gap, end   instead of bytes
    marks      what of the data arrived when: one per read of a text stream, one for the records
               of an events stream, which are in one entry only when they came within 10 ms
    """

    stream: str
    kind: str
    offset: int
    time_us: int
    data: bytes = b""
    gap: Optional[Gap] = None
    end: Optional[End] = None
    marks: tuple[Mark, ...] = ()
