"""The file format of containerd and CRI-O, one line per write of a container, 16 KiB at most.

    2026-11-23T22:26:47.123456789Z stdout F step 1
    2026-11-23T22:26:47.123456789Z stdout P a very long li

P is a part, another follows; F is the last part or a whole line. The newline behind F is the
container's, the one behind P is not. Bytes are kept as they are.
"""

from __future__ import annotations

import re

from loghaul.chunk import TEXT
from loghaul_ingest.foreign import said
from loghaul_ingest.foreign.entry import Entry, ForeignError, Producer

LINE = re.compile(
    rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)) "
    rb"(stdout|stderr) ([PF])(?::\S*)?(?: (.*))?\Z",
    re.DOTALL,
)


def fits(text: bytes) -> bool:
    """Whether a line is a write in a file of CRI."""
    return LINE.match(text) is not None


def write_of(text: bytes) -> tuple[str, bytes, int | None] | None:
    """Return (stdout or stderr, bytes, time) of a line without its newline; None: it is none."""
    match = LINE.match(text)
    if match is None:
        return None
    data = match[4] or b""
    if match[3] == b"F":
        data += b"\n"
    return match[2].decode(), data, said.moment(match[1].decode())


def entries(value: bytes, producer: Producer) -> list[Entry]:
    """Return the writes of a record: one line of the file, or several."""
    found = []
    for text in value.removesuffix(b"\n").split(b"\n"):
        write = write_of(text)
        if write is None:
            raise ForeignError("record is no line of a CRI log file")
        stream, data, time_us = write
        found.append(Entry(producer, stream, TEXT, data, time_us))
    return found
