"""Counting the hits of several blocks at once: a block costs as much to begin as to count."""

from __future__ import annotations

from dataclasses import replace

from loghaul_ingest.query.matcher import Matcher
from loghaul_ingest.view import View

#: So much is counted at once: more would leave the processor's caches.
_BYTES = 256 * 1024


class Together:
    """Blocks of whole lines that are asked the same; of which stream they are does not matter."""

    def __init__(self) -> None:
        self._views: list[View] = []
        self._matcher: Matcher | None = None
        self._bytes = 0

    @staticmethod
    def takes(view: View, matcher: Matcher) -> bool:
        """Whether a block can be counted with others: it begins and ends with a line."""
        return matcher.by_line and not view.head.head and view.data.endswith(b"\n")

    def add(self, view: View, matcher: Matcher) -> int:
        """Take a block; return the hits of those before it, where they are enough or asked else."""
        counted = 0
        if self._bytes >= _BYTES or not self._fits(view, matcher):
            counted = self.count()
        self._matcher = matcher
        self._views.append(view)
        self._bytes += len(view.data)
        return counted

    def count(self) -> int:
        """Return the hits of what was taken, and forget it."""
        views, self._views, self._bytes = self._views, [], 0
        if not views or self._matcher is None:
            return 0
        data = b"".join([view.data for view in views])
        lines = sum(view.head.lines for view in views)
        head = replace(views[0].head, length=len(data), lines=lines)
        return self._matcher.count(View(views[0].facts, head, data, ()))

    def _fits(self, view: View, matcher: Matcher) -> bool:
        return matcher is self._matcher and (not self._views or self._views[0].kind == view.kind)
