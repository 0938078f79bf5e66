"""A call site of log lines: what all its lines have in common, declared once per segment.

A line is `before`, the moment in 26 bytes, `head`, the message, `tail`. Only moment and message
lie in a LOG record, so a line costs its writer little; readers put it together again. A message
is kept as it stands in the line (escaped, where the line is JSON): its length is known unseen.
"""

from __future__ import annotations

from loghaul.moment import microseconds, stamp

#: Bytes of a moment in a line.
MOMENT_BYTES = 26
#: Sites that one segment declares; the lines of further ones are kept as they are, as DATA.
MAX_SITES = 1000


class Site:
    """What is the same in all lines of one call site. One object is one site: it is a key.

    length    bytes of a line without its message
    """

    __slots__ = ("before", "head", "length", "tail")

    def __init__(self, before: bytes, head: bytes, tail: bytes) -> None:
        """Make a site; `before` and `head` hold no newline."""
        self.before, self.head, self.tail = before, head, tail
        self.length = len(before) + MOMENT_BYTES + len(head) + len(tail)

    def encode(self) -> bytes:
        """Return the payload of a SITE record."""
        return b"\n".join((self.before, self.head, self.tail))

    @classmethod
    def decode(cls, payload: bytes) -> Site:
        """Return the site of a SITE record. Raises ValueError where the payload is none."""
        before, head, tail = payload.split(b"\n", 2)
        return cls(before, head, tail)

    def line(self, created: float, message: bytes) -> bytes:
        """Return a whole line. created: seconds since the epoch, as in a log record."""
        moment = stamp(microseconds(created)).encode()
        return b"".join((self.before, moment, self.head, message, self.tail))
