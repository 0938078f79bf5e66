"""Reading ahead of use: while one part is hashed and written, a thread reads the next.

Reading (SQLite, zstd), hashing and writing each let other threads run, so a download costs what its
slowest step costs, not their sum. At most AHEAD_PARTS parts of PART_BYTES wait.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from queue import Full, Queue

from loghaul_ingest.pieces import Hole, Item

PART_BYTES = 1 << 20
AHEAD_PARTS = 3
_LOOK_SECONDS = 0.05


def read_ahead(items: Iterable[Item]) -> Iterator[Item]:
    """Yield the same items; they are taken in a thread of its own, which ends with this iterator.

    What `items` raises is raised here, at its place.
    """
    parts: Queue[list[Item] | None] = Queue(AHEAD_PARTS)
    unwanted = threading.Event()
    reader = _Reader(items, parts, unwanted)
    reader.start()
    try:
        while (part := parts.get()) is not None:
            yield from part
        if reader.error is not None:
            raise reader.error
    finally:
        unwanted.set()
        reader.join()


class _Reader(threading.Thread):
    """Takes items and hands them over in parts."""

    def __init__(
        self, items: Iterable[Item], parts: Queue[list[Item] | None], unwanted: threading.Event
    ) -> None:
        super().__init__(daemon=True)
        self._items, self._parts, self._unwanted = items, parts, unwanted
        self.error: BaseException | None = None

    def run(self) -> None:
        """Read to the end, or until nobody wants more."""
        part: list[Item] = []
        held = 0
        try:
            for item in self._items:
                part.append(item)
                held += 0 if isinstance(item, Hole) else len(item.data)
                if held >= PART_BYTES:
                    if not self._hand_over(part):
                        return
                    part, held = [], 0
        except BaseException as error:  # noqa: BLE001 - raised where the items are used
            self.error = error
        self._hand_over(part)
        self._hand_over(None)

    def _hand_over(self, part: list[Item] | None) -> bool:
        while not self._unwanted.is_set():
            try:
                self._parts.put(part, timeout=_LOOK_SECONDS)
                return True
            except Full:
                continue
        return False
