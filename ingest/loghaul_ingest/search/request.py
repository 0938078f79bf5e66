"""What is asked of a search, and what it answers."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from loghaul.chunk import StreamKey
from loghaul_ingest.errors import UsageError
from loghaul_ingest.query import Query

NEWEST, FILE = "newest", "file"


@dataclass(frozen=True)
class Request:
    """A search for a page of hits.

    runs             only these; None: all
    since, until     [since, until) in microseconds; None is open
    limit            hits on a page
    context          lines before and after each hit, of the same stream
    order            "newest": by time over everything; "file": file by file, in the files' order
    cursor           where the page before ended (`Page.cursor`), None: from the beginning
    seconds          stop after about so long with what is certain by then; None: never
    """

    query: Query
    runs: Sequence[str] | None = None
    since: int | None = None
    until: int | None = None
    limit: int = 100
    context: int = 0
    order: str = NEWEST
    cursor: str | None = None
    seconds: float | None = None


class Hit(NamedTuple):
    """A line that matches: the event (DESIGN 3.1), and the events around it."""

    time_us: int
    stream: StreamKey
    offset: int
    event: Mapping[str, Any]
    before: Sequence[Mapping[str, Any]] = ()
    after: Sequence[Mapping[str, Any]] = ()


class Page(NamedTuple):
    """A page of hits.

    cursor            for the next page; None: there is none
    complete          everything there is was looked at
    searched_back_to  microseconds: every hit from there on was given; None when complete
    """

    hits: Sequence[Hit]
    cursor: str | None
    complete: bool
    searched_back_to: int | None


def written(place: Any) -> str:
    """Return a place as an opaque cursor."""
    return base64.urlsafe_b64encode(json.dumps(place, separators=(",", ":")).encode()).decode()


def place_of(cursor: str, order: str) -> Any:
    """Return the place that a cursor names. Raises UsageError for one that is no cursor of ours."""
    try:
        found = json.loads(base64.urlsafe_b64decode(cursor.encode("ascii")))
        if found[0] == order:
            return found[1]
    except (ValueError, binascii.Error, LookupError, TypeError):
        pass
    raise UsageError("this cursor is of another search: start without one")
