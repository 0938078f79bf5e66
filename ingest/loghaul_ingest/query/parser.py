"""From text to tree. Never fails: what is no query is searched as the text that it is.

    query    := group (OR group)*            groups are terms side by side: all of them
    term     := [-|NOT] ( "(" query ")" | name ":" value | "phrase" | /regex/ | word )
    value    := "text" | word | wild*card | * | >=v | [a TO b] | "(" query of values ")"

Quotation marks, brackets and slashes have their meaning only where they come in pairs and stand at
the beginning and the end of a term; `name:` only with a known name and a value behind it.
Everything else is text, and text with punctuation is a phrase of its words.
"""

from __future__ import annotations

import difflib
import re
from typing import NamedTuple

from loghaul_ingest.query import fields, regex, tree
from loghaul_ingest.query.fieldterms import FieldTerms, Refused
from loghaul_ingest.query.literals import literal, plain, unquoted, word_term

_MAX_DEPTH = 40
_PAIRS = re.compile(
    r'(?:(?<=[\s(:\-<>])|(?<=[<>]=)|^)"(?:[^"\\]|\\.)*"'
    r"|(?:(?<=[\s(\-])|^)/(?:[^/\\\n]|\\.)+/i?(?=[\s)]|$)"
    r"|[()]",
    re.DOTALL,
)
_TERM = re.compile(r"\S+")
_SPACE = re.compile(r"\s*")
_REGEX = re.compile(r"/((?:[^/\\\n]|\\.)+)/(i?)(?=[\s)]|$)")
_NAME = re.compile(r"([@A-Za-z_][\w.@-]*):", re.ASCII)


class Parsed(NamedTuple):
    """A tree, and what the person should know about how the text was understood."""

    tree: tree.Tree
    hints: tuple[str, ...]


def parse_tree(text: str, now_us: int, backtracking: bool = False) -> Parsed:
    """Return the tree of a query. Empty text means every line.

    backtracking    Python's `re` may stand in where google-re2 is missing
    """
    parser = _Parser(text, now_us, backtracking)
    found = parser.query(0, len(text), None, 0)
    if found is None:
        stripped = plain(text).strip()
        found = tree.Every() if stripped in ("", '""') else tree.Text(stripped)
    return Parsed(found, tuple(dict.fromkeys(parser.hints)))


class _Parser:
    def __init__(self, text: str, now_us: int, backtracking: bool) -> None:
        self.text = text
        self.hints: list[str] = []
        self._backtracking = backtracking
        self._fields = FieldTerms(now_us)
        self._quotes, self._groups = _pairs(text)

    def query(self, place: int, end: int, field: str | None, depth: int) -> tree.Tree | None:
        """Terms between two places; None where no term has a meaning."""
        groups: list[list[tree.Tree]] = [[]]
        negate = False
        while (place := self._skip(place, end)) < end:
            keyword = self._keyword(place, end)
            follows = keyword and self._skip(place + len(keyword), end) < end
            if keyword == "NOT" and follows:
                negate, place = not negate, place + 3
                continue
            if keyword and follows and groups[-1]:
                if keyword == "OR":
                    groups.append([])
                place += len(keyword)
                continue
            node, place = self._term(place, end, field, depth)
            if node is not None:
                groups[-1].append(tree.negated(node) if negate else node)
            negate = False
        found = [tree.all_of(group) for group in groups if group]
        return tree.any_of(found) if found else None

    def _keyword(self, place: int, end: int) -> str:
        term = _TERM.match(self.text, place, end)
        return term[0] if term and term[0] in ("OR", "AND", "NOT") else ""

    def _skip(self, place: int, end: int) -> int:
        space = _SPACE.match(self.text, place, end)
        return space.end() if space else place

    def _term(
        self, place: int, end: int, field: str | None, depth: int
    ) -> tuple[tree.Tree | None, int]:
        text = self.text
        if text[place] == "-" and place + 1 < end and not re.match(r"[\s>-]", text[place + 1]):
            node, behind = self._positive(place + 1, end, field, depth)
            return (None if node is None else tree.negated(node)), behind
        return self._positive(place, end, field, depth)

    def _positive(
        self, place: int, end: int, field: str | None, depth: int
    ) -> tuple[tree.Tree | None, int]:
        first = self.text[place]
        closing = self._groups.get(place, end)
        if first == "(" and closing < end and self._ends(closing + 1, end) and depth < _MAX_DEPTH:
            return self.query(place + 1, closing, field, depth + 1), closing + 1
        if field is not None:
            return self._value(field, place, end, depth) or self._word(place, end)
        behind = self._quotes.get(place, end + 1)
        if first == '"' and behind <= end:
            return literal(unquoted(self.text[place:behind])), behind
        if first == "/":
            expression = _REGEX.match(self.text, place, end)
            node = self._regex(expression) if expression else None
            if expression and node is not None:
                return node, expression.end()
        return self._named(place, end, depth) or self._word(place, end)

    def _ends(self, place: int, end: int) -> bool:
        return place >= end or self.text[place].isspace()

    def _named(self, place: int, end: int, depth: int) -> tuple[tree.Tree | None, int] | None:
        name = _NAME.match(self.text, place, end)
        field = fields.resolve(name[1]) if name else None
        if name is None:
            return None
        if field is None:
            self._doubt(name[1])
            return None
        if self._ends(name.end(), end):
            self.hints.append(f"{name[0]} has no value: searched as text")
            return None
        return self._value(field, name.end(), end, depth)

    def _doubt(self, name: str) -> None:
        """Hint at a field that may have been meant; times and addresses have colons too."""
        near = difflib.get_close_matches(name.lower(), fields.NAMES, 1, 0.75)
        if near:
            self.hints.append(
                f"there is no field {name!r}: searched as text; did you mean {near[0]}: ?"
            )

    def _value(
        self, field: str, place: int, end: int, depth: int
    ) -> tuple[tree.Tree | None, int] | None:
        """The value of a field; None where there is none that can be used (then it is text)."""
        text = self.text
        closing = self._groups.get(place, end)
        if text[place] == "(" and closing < end and depth < _MAX_DEPTH:
            return self.query(place + 1, closing, field, depth + 1), closing + 1
        try:
            behind = self._quotes.get(place, end + 1)
            if text[place] == '"' and behind <= end:
                return self._fields.quoted(field, unquoted(text[place:behind])), behind
            between = self._fields.between(field, text, place, end)
            if between is not None:
                return between
            return self._fields.written(field, text, place, end, self._quotes)
        except Refused as refused:
            self.hints.append(f"{refused}: searched as text")
            return None

    def _word(self, place: int, end: int) -> tuple[tree.Tree | None, int]:
        term = _TERM.match(self.text, place, end)
        if term is None:  # a blank that `\\s` knows and `\\S` too cannot be
            return None, end
        if term[0].count('"') % 2 and term[0][0] == '"':
            self.hints.append("a quotation mark without its partner is searched as text")
        if term[0][0] == "(" and term[0].count("(") != term[0].count(")"):
            self.hints.append("a bracket without its partner is searched as text")
        return word_term(term[0]), term.end()

    def _regex(self, expression: re.Match[str]) -> tree.Tree | None:
        pattern, flag = expression.groups()
        if not regex.available() and not self._backtracking:
            self.hints.append(
                "regular expressions need google-re2 (pip install 'loghaul[re2]'): "
                f"{expression[0]} is searched as text"
            )
            return None
        try:
            regex.compiled(pattern, flag == "i")
        except ValueError as error:
            self.hints.append(f"{expression[0]} is no regular expression ({error})")
            return None
        return tree.Regex(pattern, flag == "i")


def _pairs(text: str) -> tuple[dict[int, int], dict[int, int]]:
    """Where quotations end (behind the mark), and where groups do (at the bracket)."""
    quotes: dict[int, int] = {}
    groups: dict[int, int] = {}
    opened: list[int] = []
    for found in _PAIRS.finditer(text):
        if found[0] == "(":
            opened.append(found.start())
        elif found[0][0] == "/":
            continue
        elif found[0] != ")":
            quotes[found.start()] = found.end()
        elif opened:
            groups[opened.pop()] = found.start()
    return quotes, groups
