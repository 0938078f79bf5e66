"""Pages of hits in the order of files: run by run, writer by writer, path by path, from the top.

The streams of one file (stdout and stderr of a process) are merged by time; each keeps its own
order. The cursor is the file and how far each of its streams was read.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Any

from loghaul.chunk import StreamKey
from loghaul_ingest.block import Head
from loghaul_ingest.errors import UsageError
from loghaul_ingest.query.propose import propose
from loghaul_ingest.search.catalog import Catalog
from loghaul_ingest.search.loading import Given, fresh, load
from loghaul_ingest.search.pages import Found, hit, limited
from loghaul_ingest.search.request import FILE, Hit, Page, Request, place_of, written
from loghaul_ingest.stores.base import Reader
from loghaul_ingest.view import open_view

File = tuple[str, int, str, str]
"""Run, start of the writer, writer, path: where a file stands in the order."""


def in_files(reader: Reader, request: Request) -> Page:
    """Return the hits behind the cursor, file by file."""
    search = _InFiles(reader, request)
    hits: list[Hit] = []
    place: Any = None
    for file, found in search.found():
        if len(hits) >= max(1, request.limit):
            return Page(hits, written((FILE, place)), False, None)
        hits.append(hit(reader, found, request.context))
        place = search.passed(file, found)
    return Page(hits, None, True, None)


class _InFiles:
    def __init__(self, reader: Reader, request: Request) -> None:
        self._reader, self._request = reader, request
        self._tree = limited(request)
        self._catalog = Catalog(reader, self._tree)
        self._from, self._read = _place(request.cursor)

    def found(self) -> Iterator[tuple[File, Found]]:
        """Yield the hits behind the cursor."""
        for file, streams in sorted(self._files().items()):
            if self._from is not None and file < self._from:
                continue
            if file != self._from:
                self._read = {}
            merged = heapq.merge(
                *(self._stream(heads) for heads in streams.values()),
                key=lambda found: (found.place[0], found.place[3]),
            )
            for found in merged:
                yield file, found

    def passed(self, file: File, found: Found) -> Any:
        """Return the place behind a hit."""
        self._from = file
        self._read[found.place[3]] = found.place[4]
        return [list(file), dict(self._read)]

    def _files(self) -> dict[File, dict[StreamKey, list[Head]]]:
        files: dict[File, dict[StreamKey, list[Head]]] = {}
        heads = self._reader.candidates(propose(self._tree), self._request.runs)
        for head in self._catalog.among(heads):
            key, facts = head.stream, self._catalog.of(head).facts
            path = str(facts.common.get("log.file.path", key.stream))
            file = (key.run, facts.started, key.writer, path)
            files.setdefault(file, {}).setdefault(key, []).append(head)
        return files

    def _stream(self, heads: list[Head]) -> Iterator[Found]:
        given = Given()
        behind = self._read.get(heads[0].stream.stream, -1)
        ordered = iter(sorted(heads, key=lambda head: head.offset))
        unread = (head for head in ordered if head.end > behind)
        for stored in load(self._reader, unread, self._catalog.wanted):
            bound = self._catalog.of(stored.head)
            if bound.matcher is None:
                continue
            view = open_view(self._reader, bound.facts, stored)
            for span in fresh(view, bound.matcher.spans(view), given.take(stored.head)):
                offset = view.offset_of(span)
                if offset > behind:
                    yield Found((view.time_of(span), *stored.head.stream, offset), view, span)


def _place(cursor: str | None) -> tuple[File | None, dict[str, int]]:
    if cursor is None:
        return None, {}
    try:
        (run, started, writer, path), read = place_of(cursor, FILE)
        return (str(run), int(started), str(writer), str(path)), {
            str(stream): int(offset) for stream, offset in read.items()
        }
    except (ValueError, TypeError, AttributeError) as error:
        raise UsageError("this cursor is of another search: start without one") from error
