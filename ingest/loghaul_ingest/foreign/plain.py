"""Plain lines: kcat, rsyslog's omkafka, anything that sends text. Bytes are kept as they are.

One record is one line, or several; the newline that most producers leave off is put back. What it
says about itself (a level, JSON) is recognised when it is read, as in any text.
"""

from __future__ import annotations

import re

from loghaul.chunk import TEXT
from loghaul_ingest.foreign.entry import Entry, Producer

#: Bytes that no text has: a terminal's are allowed.
_BINARY = re.compile(rb"[\x00-\x06\x0e-\x1a\x1c-\x1f]")


def fits(value: bytes) -> bool:
    """Whether bytes are text, in whatever encoding."""
    return _BINARY.search(value) is None


def entries(value: bytes, producer: Producer) -> list[Entry]:
    """Return the line of a record."""
    return [Entry(producer, "output", TEXT, ended(value), None)]


def ended(data: bytes) -> bytes:
    """Return a line with its newline."""
    return data if data.endswith(b"\n") else data + b"\n"
