"""Where in a shown text the words of a query stand: what is searched for, not what is excluded."""

from __future__ import annotations

import re
from collections.abc import Iterator

from loghaul_ingest.query import regex, tree
from loghaul_ingest.query.seekers import cases

_KEPT = "[A-Za-z0-9_]"
_GAP = "[^A-Za-z0-9_]+?"


def highlights(node: tree.Tree, text: str) -> list[tuple[int, int]]:
    """Return (start, end) of the hits in a text, ascending, joined where they touch."""
    found = sorted(span for term in _terms(node) for span in _spans(term, text))
    joined: list[tuple[int, int]] = []
    for start, end in found:
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((start, end))
    return joined


def _terms(node: tree.Tree) -> Iterator[tree.Tree]:
    if isinstance(node, (tree.And, tree.Or)):
        for part in node.parts:
            yield from _terms(part)
    elif isinstance(node, tree.Within):
        yield node.node
    elif isinstance(node, (tree.Phrase, tree.Wild, tree.Text, tree.Regex)):
        yield node


def _spans(term: tree.Tree, text: str) -> Iterator[tuple[int, int]]:
    if isinstance(term, tree.Regex):
        yield from _expression_spans(term, text)
        return
    for found in re.finditer(_form(term), text):
        if found.end() > found.start():
            yield found.span()


def _form(term: tree.Tree) -> str:
    if isinstance(term, tree.Phrase):
        form = _GAP.join(word.decode("ascii") for word in term.words)
        return f"(?ai)(?<!{_KEPT}){form}(?!{_KEPT})"
    if isinstance(term, tree.Wild):
        # Stars are shown as far as they reach, which a lazy and atomic form finds in linear time.
        parts = [part.replace(".", _GAP) for part in term.pattern.split("*")]
        middle = "".join(f"(?>{_KEPT}*?{part})" for part in parts[1:-1])
        last = f"(?>{_KEPT}*?{parts[-1]}(?!{_KEPT}))" if parts[-1] else f"{_KEPT}*"
        # Always from the beginning of a word: from each letter of a long one would be quadratic.
        return f"(?ai)(?<!{_KEPT}){parts[0]}{middle}{last}"
    if isinstance(term, tree.Text):
        forms = ("|".join(map(re.escape, cases(character))) for character in term.text)
        return "".join(f"(?:{form})" for form in forms)
    return "(?!)"


def _expression_spans(term: tree.Regex, text: str) -> Iterator[tuple[int, int]]:
    engine = regex.compiled(term.pattern, term.ignore_case)
    data = text.encode("utf-8", "replace")
    place = 0
    while place <= len(data):
        found = engine.search(data, place)
        if found is None:
            return
        start, end = found.start(), found.end()
        if end > start:
            yield _characters(data, start), _characters(data, end)
        place = max(end, start + 1)


def _characters(data: bytes, position: int) -> int:
    return len(data[:position].decode("utf-8", "ignore"))
