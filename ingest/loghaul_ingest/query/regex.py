"""Regular expressions: google-re2 (linear time), and what words a match of one must contain.

Without google-re2 an expression of somebody else's is refused, because `re` can be made to run for
hours by one of thirty characters. Whoever searches data of their own may allow `re` instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Protocol

try:
    import re2
except ImportError:  # no wheel for this platform: see `available`
    re2 = None


class Found(Protocol):
    """A match, of either engine."""

    def start(self) -> int:
        """Return where it begins."""
        ...

    def end(self) -> int:
        """Return where it ends."""
        ...


class Engine(Protocol):
    """A compiled expression, of either engine."""

    def search(self, text: bytes, pos: int = 0, endpos: int = ...) -> Found | None:
        """Return the first match at or behind `pos`."""
        ...


def available() -> bool:
    """Return whether google-re2 is installed."""
    return re2 is not None


def compiled(pattern: str, ignore_case: bool) -> Engine:
    """Return an expression over the bytes of many lines, no match of which crosses a newline.

    Raises ValueError with what is wrong with it.
    """
    text = pattern.encode("utf-8", "replace")
    if re2 is not None:
        options = re2.Options()
        options.log_errors = False
        options.never_nl = True
        options.case_sensitive = not ignore_case
        options.max_mem = 16 << 20
        try:
            engine: Engine = re2.compile(b"(?m)" + text, options)
        except re2.error as error:
            raise ValueError(_message(error)) from error
        return engine
    try:
        return _PerLine(re.compile(text, re.IGNORECASE if ignore_case else 0))
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(str(error)) from error


class _PerLine:
    """Python's `re`, one line at a time: its classes would cross newlines."""

    def __init__(self, pattern: re.Pattern[bytes]) -> None:
        self._pattern = pattern

    def search(self, text: bytes, pos: int = 0, endpos: int = 1 << 62) -> Found | None:
        endpos = min(endpos, len(text))
        while pos <= endpos:
            end = text.find(b"\n", pos, endpos)
            end = endpos if end < 0 else end
            found = _in_line(self._pattern, text, pos, end)
            if found is not None:
                return found
            pos = end + 1
        return None


class _Place:
    def __init__(self, start: int, end: int) -> None:
        self._start, self._end = start, end

    def start(self) -> int:
        return self._start

    def end(self) -> int:
        return self._end


def _in_line(pattern: re.Pattern[bytes], text: bytes, pos: int, end: int) -> Found | None:
    begin = text.rfind(b"\n", 0, pos) + 1
    for found in pattern.finditer(text[begin:end]):
        if begin + found.start() >= pos:
            return _Place(begin + found.start(), begin + found.end())
    return None


def _message(error: Exception) -> str:
    detail = error.args[0] if error.args else error
    text = detail.decode("utf-8", "replace") if isinstance(detail, bytes) else str(detail)
    return text.replace("(?m)", "", 1)


def required_words(pattern: str, ignore_case: bool) -> list[bytes]:
    """Return words that every line with a match contains: those whole between two boundaries.

    Only what is certain: parts outside of groups, classes and alternatives. Empty: none is.
    """
    folded = ignore_case or "(?" in pattern
    if folded and not pattern.isascii():
        return []
    try:
        literal = "".join(_literal(pattern))
    except _Uncertain:
        return []
    # NUL stands for "anything", so a word beside one may go on behind it.
    found = re.findall(r"(?<![A-Za-z0-9_\0])[A-Za-z0-9_]+(?![A-Za-z0-9_\0])", literal)
    result = [word.lower().encode() for word in found]
    # Case folding maps the Kelvin sign to k and the long s to s, which are no words of ours.
    return [word for word in result if not (folded and {*b"ks"} & {*word})]


class _Uncertain(Exception):
    """The expression has something that this module does not take apart."""


_UNKNOWN, _EDGE = "\0", "\x01"
_ESCAPED_EDGE = frozenset("bsWAz")
_ESCAPED_UNKNOWN = frozenset("dDwSB")


def _literal(pattern: str) -> Iterator[str]:
    """Yield the expression as text: NUL for what is unknown, \\x01 for an edge of a word."""
    yield _UNKNOWN
    place = 0
    while place < len(pattern):
        piece, place = _piece(pattern, place)
        quantifier = re.compile(r"(?:[*?+]|\{\d*(?:,\d*)?\})[?+]?").match(pattern, place)
        if quantifier:
            place = quantifier.end()
            # A separator repeated is a separator; of anything else repeated nothing is certain.
            separates = not (piece.isalnum() or piece in ("_", _UNKNOWN))
            piece = piece if quantifier[0][0] == "+" and separates else _UNKNOWN
        yield piece
    yield _UNKNOWN


def _piece(pattern: str, place: int) -> tuple[str, int]:
    character = pattern[place]
    if character == "\\":
        return _escaped(pattern[place + 1 : place + 2]), place + 2
    if character == "[":
        return _UNKNOWN, _behind_class(pattern, place)
    if character == "(":
        return _UNKNOWN, _behind_group(pattern, place)
    if character in "|)":
        raise _Uncertain
    if character in "^$":
        return _EDGE, place + 1
    if character == "." or not character.isprintable():
        return _UNKNOWN, place + 1
    return character, place + 1


def _escaped(character: str) -> str:
    if character in _ESCAPED_EDGE and character:
        return _EDGE
    if character in _ESCAPED_UNKNOWN and character:
        return _UNKNOWN
    if not character or character.isalnum() or not character.isascii():
        raise _Uncertain
    return character


def _behind_class(pattern: str, place: int) -> int:
    if "[:" in pattern:
        raise _Uncertain
    end = re.compile(r"\[\^?\]?(?:[^\]\\]|\\.)*\]", re.DOTALL).match(pattern, place)
    if end is None:
        raise _Uncertain
    return end.end()


def _behind_group(pattern: str, place: int) -> int:
    depth = 0
    while place < len(pattern):
        character = pattern[place]
        if character == "[":
            place = _behind_class(pattern, place)
            continue
        if character == "\\":
            _escaped_in_group(pattern[place + 1 : place + 2])
            place += 1
        depth += (character == "(") - (character == ")")
        place += 1
        if depth == 0:
            return place
    raise _Uncertain


def _escaped_in_group(character: str) -> None:
    if character in ("Q", "E", ""):
        raise _Uncertain
