"""Blocks to ask queries of: sealed for real, cut wherever a test wants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest

from loghaul.chunk import End, Mark, StreamKey
from loghaul_ingest.block import MAX_HEAD_BYTES, Block, Facts
from loghaul_ingest.seal import seal
from loghaul_ingest.view import View

COMMON = {
    "run.id": "run-1",
    "run.node": "node-a",
    "run.rank": 3,
    "log.file.path": "azureml-logs/70_driver_log.txt",
    "log.iostream": "stdout",
    "host.name": "Host-7",
    "experiment.name": "default",
    "labels": {"team": "vision"},
}
START_US = 1_764_000_000_000_000


class Blocks:
    """A stream cut into blocks."""

    def __init__(self, data: bytes, cuts: Sequence[int], kind: str, **common: Any) -> None:
        key = StreamKey("run-1", "0" * 32, "stdout")
        end = End(len(data), START_US, "exit", None, {})
        self.data, self.kind = data, kind
        self.facts = Facts(key, kind, START_US, {**COMMON, **common}, end)
        places = sorted({0, len(data), *(cut for cut in cuts if 0 < cut < len(data))})
        self.blocks = [self._block(start, stop) for start, stop in pairwise(places)]

    def _block(self, start: int, stop: int) -> tuple[Block, View]:
        begins = self._begin_of_event(start)
        head = self.data[begins:start]
        marks = (Mark(stop - start, START_US + start),)
        ended = stop == len(self.data)
        block = seal(self.facts, start, self.data[start:stop], marks, head, ended=ended)
        before = head[:MAX_HEAD_BYTES]
        return block, View(self.facts, block.head, block.data, block.marks, before)

    def _begin_of_event(self, start: int) -> int:
        begins = self.data.rfind(b"\n", 0, start) + 1
        if self.kind == "text":
            place = self.data.rfind(b"\r", begins, start)
            while place >= begins and self.data[place + 1 : place + 2] == b"\n":
                place = self.data.rfind(b"\r", begins, place)
            # A return that the next block's newline follows is no end.
            begins = max(begins, place + 1)
        return begins


@pytest.fixture(scope="session")
def blocks() -> Callable[..., Blocks]:
    """Return the maker of blocks: (data, cuts, kind)."""
    return lambda data, cuts=(), kind="text", **common: Blocks(data, cuts, kind, **common)
