"""Finding lines in a buffer: words, phrases, wildcards, characters, regular expressions.

Every seeker gives the same three answers about one block: where the lines with a hit start, which
of some given lines have one, and how many lines have one. The work is `bytes.find` and one compiled
expression; Python runs once per hit, never once per line.
"""

from __future__ import annotations

import re
from typing import Protocol

from loghaul_ingest.query import regex
from loghaul_ingest.query.literals import to_bytes
from loghaul_ingest.query.scan import Scan

_EDGES = b" \n"
_WORD_EDGE = (rb"(?<![a-z0-9_])", rb"(?![a-z0-9_])")
_ASCII = re.compile(r"[\0-\x7f]")
#: From so many lines on, finding all hits of a block is cheaper than asking line by line.
_MANY = 24


class Seeker(Protocol):
    """What finds lines in one block."""

    def starts(self, scan: Scan) -> list[int]:
        """Return where the lines with a hit start, ascending."""
        ...

    def keep(self, scan: Scan, starts: list[int]) -> list[int]:
        """Return those of `starts` whose line has a hit."""
        ...

    def count(self, scan: Scan) -> int:
        """Return how many lines have a hit."""
        ...

    def estimate(self, scan: Scan) -> int:
        """Return about how many hits there are; 0 is certain."""
        ...


class WordSeeker:
    """One whole word."""

    def __init__(self, word: bytes) -> None:
        self._word = word
        self._lines = re.compile(_from_fixed(word, _WORD_EDGE[1])).findall

    def starts(self, scan: Scan) -> list[int]:
        """Return where the lines with the word start."""
        words, word, size = scan.words, self._word, len(self._word)
        found: list[int] = []
        find, rfind, length = words.find, words.rfind, len(words)
        place = find(word)
        while place >= 0:
            end = place + size
            if (end == length or words[end] in _EDGES) and (
                place == 0 or words[place - 1] in _EDGES
            ):
                found.append(rfind(b"\n", 0, place) + 1)
                end = find(b"\n", end)
                if end < 0:
                    break
            place = find(word, end)
        return found

    def keep(self, scan: Scan, starts: list[int]) -> list[int]:
        """Return the lines among `starts` with the word."""
        if len(starts) > _MANY:
            return _among(self.starts(scan), starts)
        return [start for start in starts if self._within(scan.words, start, scan.end(start))]

    def _within(self, words: bytes, start: int, stop: int) -> bool:
        word, size, length = self._word, len(self._word), len(words)
        place = words.find(word, start, stop)
        while place >= 0:
            end = place + size
            if (end == length or words[end] in _EDGES) and (
                place == 0 or words[place - 1] in _EDGES
            ):
                return True
            place = words.find(word, end, stop)
        return False

    def count(self, scan: Scan) -> int:
        """Return how many lines have the word."""
        return len(self._lines(scan.words))

    def estimate(self, scan: Scan) -> int:
        """Return how often the word stands there, in longer words too."""
        return scan.words.count(self._word)


class FormSeeker:
    """A phrase or a wildcard: an expression over the words, found by its longest fixed part."""

    def __init__(self, anchor: bytes, form: regex.Engine, lines: bytes | None = None) -> None:
        self._anchor, self._form = anchor, form
        self._lines = re.compile(lines).findall if lines else None

    def starts(self, scan: Scan) -> list[int]:
        """Return where the lines with the form start."""
        words, anchor, search = scan.words, self._anchor, self._form.search
        find, found = words.find, list[int]()
        place = find(anchor)
        while place >= 0:
            start = words.rfind(b"\n", 0, place) + 1
            end = find(b"\n", place)
            end = len(words) if end < 0 else end
            if search(words, start, end):
                found.append(start)
            place = find(anchor, end)
        return found

    def keep(self, scan: Scan, starts: list[int]) -> list[int]:
        """Return the lines among `starts` with the form."""
        if len(starts) > _MANY:
            return _among(self.starts(scan), starts)
        words, search = scan.words, self._form.search
        return [start for start in starts if search(words, start, scan.end(start))]

    def count(self, scan: Scan) -> int:
        """Return how many lines have the form."""
        if self._lines is not None and self.estimate(scan) > _MANY:
            return len(self._lines(scan.words))
        return len(self.starts(scan))

    def estimate(self, scan: Scan) -> int:
        """Return how often the fixed part stands there."""
        return scan.words.count(self._anchor)


class TextSeeker:
    """An expression over the text itself: characters that are no words, or a user's."""

    def __init__(self, engine: regex.Engine) -> None:
        self._engine = engine

    def starts(self, scan: Scan) -> list[int]:
        """Return where the lines with a match start."""
        text, search, found = scan.text, self._engine.search, list[int]()
        length, place = len(text), 0
        while place < length:
            match = search(text, place)
            if match is None or match.start() >= length:
                break
            found.append(scan.start_in_text(match.start()))
            place = text.find(b"\n", match.start()) + 1 or length
        return found

    def keep(self, scan: Scan, starts: list[int]) -> list[int]:
        """Return the lines among `starts` with a match."""
        text = scan.text
        if len(starts) > _MANY or len(text) != scan.stop:
            return _among(self.starts(scan), starts)
        kept = []
        for start in starts:
            # The text is cut out: engines differ in what an anchor means inside of one.
            if self._engine.search(text[start : scan.end(start)].removesuffix(b"\n")):
                kept.append(start)
        return kept

    def count(self, scan: Scan) -> int:
        """Return how many lines have a match."""
        return len(self.starts(scan))

    def estimate(self, scan: Scan) -> int:
        """Unknown: as many as there are bytes."""
        return scan.stop


def phrase(words: tuple[bytes, ...]) -> Seeker:
    """Return the seeker of words that follow each other."""
    if len(words) == 1:
        return WordSeeker(words[0])
    form = _WORD_EDGE[0] + rb" +".join(words) + _WORD_EDGE[1]
    lines = _from_fixed(words[0], rb" +".join((b"", *words[1:])) + _WORD_EDGE[1])
    return FormSeeker(max(words, key=len), re.compile(form), lines)


def _from_fixed(fixed: bytes, rest: bytes) -> bytes:
    """Return an expression that takes a line from its first hit on, once.

    The edge before the hit is looked at behind its fixed beginning, to which `re` can jump.
    """
    return rb"%b(?<![a-z0-9_]%b)%b.*" % (fixed, fixed, rest)


def wild(pattern: str) -> Seeker:
    """Return the seeker of a phrase with `*` in its words."""
    pieces = re.findall(r"[a-z0-9_]+", pattern)
    anchor = max(pieces, key=len).encode()
    if "*" in pattern.strip("*") and regex.available():
        # Stars inside of a word backtrack, and a word may be 64 KiB long: linear time for these.
        inner = pattern.strip("*").replace(".", " +").replace("*", r"\w*")
        opening = "" if pattern[0] == "*" else r"\b"
        closing = "" if pattern[-1] == "*" else r"\b"
        return FormSeeker(anchor, regex.compiled(opening + inner + closing, False))
    lines = None
    if pattern[0] != "*":
        fixed = pieces[0].encode()
        rest = wild_form(pattern).encode().removeprefix(_WORD_EDGE[0] + fixed)
        lines = _from_fixed(fixed, rest)
    return FormSeeker(anchor, re.compile(wild_form(pattern).encode()), lines)


def wild_form(pattern: str) -> str:
    """Return the expression of a wildcard over words."""
    kept = "[a-z0-9_]"
    form = pattern.replace(".", " +").replace("*", f"{kept}*")
    # A star at an edge adds nothing to what is found, and an edge that is no star must be one.
    form = form.removeprefix(f"{kept}*") if pattern[0] == "*" else f"(?<!{kept}){form}"
    return form.removesuffix(f"{kept}*") if pattern[-1] == "*" else f"{form}(?!{kept})"


def characters(text: str) -> Seeker:
    """Return the seeker of characters, whatever their case."""
    form = b"".join(_any_case(character) for character in text)
    return TextSeeker(re.compile(form))


def expression(pattern: str, ignore_case: bool) -> Seeker:
    """Return the seeker of a regular expression."""
    return TextSeeker(regex.compiled(pattern, ignore_case))


def cases(character: str) -> list[str]:
    """Return the ways to write one character without regard to case.

    An ASCII letter is no case of another character (Kelvin sign, sharp s): else a word that stands
    beside one could not be proposed.
    """
    forms = {character.lower(), character.upper(), character.casefold(), character.title()}
    fit = {form for form in forms if character.isascii() or not _ASCII.search(form)}
    return sorted(fit | {character})


def _any_case(character: str) -> bytes:
    forms = [re.escape(to_bytes(form)) for form in cases(character)]
    return forms[0] if len(forms) == 1 else b"(?:" + b"|".join(forms) + b")"


def _among(found: list[int], starts: list[int]) -> list[int]:
    kept = set(found)
    return [start for start in starts if start in kept]
