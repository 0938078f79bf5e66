"""Text of a query as terms: words, phrases, wildcards, and characters that are no words."""

from __future__ import annotations

import re

from loghaul.chunk import TEXT
from loghaul_ingest.query import tree
from loghaul_ingest.words import blank, words


def to_bytes(text: str) -> bytes:
    """Return text as it stands in a log. Any string will do, halves of surrogates too."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def plain(text: str) -> str:
    """Return text without its ANSI sequences: they are pasted from a terminal, and no text."""
    if "\x1b" not in text:
        return text
    return blank(to_bytes(text), TEXT).decode("utf-8", "surrogateescape")


def unquoted(text: str) -> str:
    """Return what stands in quotation marks."""
    return re.sub(r'\\(["\\])', r"\1", text[1:-1])


def literal(text: str) -> tree.Phrase | tree.Text | None:
    """Return the term of a text: a phrase of its words, or its characters where it has others."""
    text = plain(text)
    if not text.isascii():
        # No line holds a newline, so one in a text can only stand for a space.
        return tree.Text(re.sub(r"[\r\n]+", " ", text))
    found = tuple(words(text.encode(), TEXT).split())
    if found:
        return tree.Phrase(found)
    return tree.Text(text) if text.strip() else None


def word_term(text: str) -> tree.Tree | None:
    """Return the term of a word without quotation marks; None for mere punctuation."""
    text = plain(text)
    if "*" not in text:
        found = literal(text)
        return None if isinstance(found, tree.Text) and text.isascii() else found
    if not text.isascii():
        parts = [literal(part) for part in text.split("*") if part]
        return tree.all_of([part for part in parts if part is not None])
    pattern = re.sub(r"[^a-z0-9_*]+", ".", text.lower()).strip(".")
    pattern = re.sub(r"\*+", "*", pattern)
    if set(pattern) <= {"*", "."}:
        return tree.Every()
    return tree.Wild(pattern)
