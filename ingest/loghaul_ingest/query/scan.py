"""The buffers of one block that a predicate looks at, each made when it is first needed.

In all of them an event is what stands between two newlines, so that the line of a hit is two calls
of `rfind` and `find`. `words` has the place of every byte; in `text` the escapes of JSON are
resolved, so its lines have other places, and `lines_of_text` maps them.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from functools import cached_property
from typing import TYPE_CHECKING

from loghaul.chunk import EVENTS, TEXT
from loghaul_ingest.query.literals import to_bytes
from loghaul_ingest.words import blank, words

if TYPE_CHECKING:
    from loghaul_ingest.view import View

_LONE_RETURN = re.compile(rb"\r(?!\n)")
_ESCAPE = re.compile(rb"\\(?:u001[bB]\[[0-?]*[ -/]*[@-~]|u[0-9a-fA-F]{4}|[^u\n])")
_ESCAPED = {rb"\"": b'"', rb"\\": b"\\", rb"\/": b"/"}

_RETURN_IS_NEWLINE = bytes(
    10 if code == 13 else words(bytes((code,)), TEXT)[0] for code in range(256)
)

#: Our own keys in an events stream: a word among them matches no line for the key's sake.
KEYS = (
    b"@timestamp",
    b"log.level",
    b"message",
    b"log.logger",
    b"error.type",
    b"error.message",
    b"error.stack_trace",
    b"extra",
    b"event.severity",
    b"process.thread.name",
    b"process.name",
    b"process.thread.id",
    b"process.task.name",
    b"log.origin.file.name",
    b"log.origin.file.line",
    b"log.origin.function",
)
KEY_WORDS = frozenset(word for key in KEYS for word in re.findall(rb"[a-z0-9_]+", key))


class Scan:
    """One block under the eyes of a predicate.

    hidden   of `KEYS`, those that the query's words could match
    """

    @classmethod
    def of_value(cls, value: str) -> Scan:
        """Return a scan of one value, as if it were a line of its own."""
        data = to_bytes(value).replace(b"\n", b" ").replace(b"\r", b" ")
        scan = cls.__new__(cls)
        scan.kind, scan._hidden = TEXT, ()
        scan.__dict__.update(stop=len(data), words=words(data, TEXT), text=blank(data, TEXT))
        return scan

    def __init__(self, view: View, hidden: tuple[bytes, ...] = ()) -> None:
        self.view = view
        self.kind = view.kind
        self._hidden = hidden if view.kind == EVENTS else ()

    @cached_property
    def stop(self) -> int:
        """Behind the last event that ends in the block; what follows belongs to the next one."""
        return self.view.end

    @cached_property
    def words(self) -> bytes:
        """The words of all events, a newline at the end of each."""
        buffer = self.view.buffer
        if self.kind == TEXT and b"\r" in buffer:
            # Between a return and its newline this makes an empty line, in which nothing is found.
            found = blank(buffer, TEXT).translate(_RETURN_IS_NEWLINE)
        else:
            found = self.view.words
        if self.stop < len(found):
            found = found[: self.stop]
        return _without_keys(found, buffer, self._hidden) if self._hidden else found

    @cached_property
    def text(self) -> bytes:
        """The text of all events, for what is no word: ANSI blanked, escapes of JSON resolved."""
        buffer = self.view.buffer[: self.stop]
        if self.kind == EVENTS and b"\\" in buffer:
            # Text has the same newlines, but not the same length.
            buffer = _ESCAPE.sub(lambda found: _ESCAPED.get(found[0], b" "), buffer)
        buffer = blank(buffer, TEXT)
        if self.kind == TEXT and b"\r" in buffer:
            buffer = _returns_are_newlines(buffer)
        return buffer

    @cached_property
    def starts(self) -> list[int]:
        """Where each event starts in `words`."""
        return [start for start, _ in self.view.spans()]

    @cached_property
    def _text_starts(self) -> list[int]:
        return [0, *(found.end() for found in re.finditer(rb"\n", self.text))]

    def start_in_text(self, position: int) -> int:
        """Return where the event with this position of `text` starts in `words`."""
        if len(self.text) == self.stop:
            return self.text.rfind(b"\n", 0, position) + 1
        return self.starts[bisect_right(self._text_starts, position) - 1]

    def end(self, start: int) -> int:
        """Return where the event that starts there ends."""
        end = self.words.find(b"\n", start) + 1 or self.stop
        if self.words[end : end + 1] == b"\n" and self.kind == TEXT:
            buffer = self.view.buffer
            if buffer[end - 1 : end + 1] == b"\r\n":
                return end + 1
        return end


def _returns_are_newlines(text: bytes) -> bytes:
    """Put a newline for each carriage return that ends an event."""
    # Looking at what follows each return is several times faster than looking for the two bytes.
    if b"\n" in {part[:1] for part in text.split(b"\r")[1:]}:
        return _LONE_RETURN.sub(b"\n", text)
    return text.replace(b"\r", b"\n")


def _without_keys(found: bytes, buffer: bytes, keys: tuple[bytes, ...]) -> bytes:
    """Put a byte that is neither word nor space over our keys, so that no phrase crosses them."""
    changed = bytearray(found)
    for key in keys:
        cover = b"\x01" * len(key)
        for opening in (b'{"', b',"'):
            sought = opening + key + b'":'
            place = buffer.find(sought)
            while 0 <= place < len(found):
                changed[place + 2 : place + 2 + len(key)] = cover
                place = buffer.find(sought, place + len(sought))
    return bytes(changed[: len(found)])
