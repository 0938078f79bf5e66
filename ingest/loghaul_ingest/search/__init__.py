"""Searching what a store holds: pages of hits, counts, histograms, facets.

The store proposes blocks, newest first; the predicate of the query decides in each; what is asked
only of levels, times and facts of streams is answered from counters.
"""

from __future__ import annotations

from loghaul_ingest.search.counting import Count, Facets, Histogram, count, facets, histogram
from loghaul_ingest.search.request import FILE, NEWEST, Hit, Page, Request
from loghaul_ingest.search.walking import Progress
from loghaul_ingest.stores.base import Reader

__all__ = [
    "FILE",
    "NEWEST",
    "Count",
    "Facets",
    "Histogram",
    "Hit",
    "Page",
    "Progress",
    "Request",
    "count",
    "facets",
    "histogram",
    "search",
]


def search(reader: Reader, request: Request) -> Page:
    """Return a page of hits. Raises UsageError for a cursor or an order that is none."""
    from loghaul_ingest.errors import UsageError
    from loghaul_ingest.search.infile import in_files
    from loghaul_ingest.search.pages import newest

    if request.order == FILE:
        return in_files(reader, request)
    if request.order != NEWEST:
        raise UsageError(f"there is no order {request.order}: newest or file")
    return newest(reader, request)
