"""A shelf of runs in the in-memory store, put there block by block as a worker would."""

import asyncio

import pytest

from loghaul.chunk import EVENTS, TEXT, End, Mark, StreamKey
from loghaul_ingest import lines
from loghaul_ingest.block import Facts
from loghaul_ingest.seal import seal
from loghaul_ingest.stores.base import Batch
from loghaul_ingest.stores.memory import MemoryStore

SECOND = 1_000_000
START = 1_763_937_600 * SECOND


class Shelf:
    """Fills a store; `dsn` names it for commands."""

    def __init__(self, store, dsn):
        self.store, self.dsn = store, dsn
        self.reader = store.reader()
        self._writer = store.writer()

    def write(self, batch):
        return asyncio.run(self._writer.write(batch))

    def stream(
        self,
        writes,
        run="run-1",
        writer="a" * 32,
        name="stdout",
        kind=None,
        path="azureml-logs/70_driver_log.txt",
        cut=64,
        started=START,
        end="exit",
        sha256=None,
        length=None,
        gaps=(),
        holes=(),
        detail=None,
        **common,
    ):
        """Store a stream of (bytes, seconds after its start) in blocks of `cut` bytes.

        holes    (offset, length) that are not stored; blocks are cut there
        end      cause, None for an open stream
        """
        kind = kind or (EVENTS if path.startswith("logs/azureml/") else TEXT)
        data = b"".join(one for one, _ in writes)
        moments = [started + int(at * SECOND) for one, at in writes for _ in range(len(one))]
        key = StreamKey(run, writer, name)
        iostream = {"log.iostream": name.split("-")[0]} if name.startswith("std") else {}
        facts = Facts(
            key,
            kind,
            started,
            {
                "run.id": run,
                "run.node": "node-a",
                "log.file.path": path,
                "role": "supervisor",
                "process.pid": 41,
                **iostream,
                **{field.replace("__", "."): value for field, value in common.items()},
            },
            End(
                len(data) if length is None else length,
                started + 60 * SECOND,
                end,
                sha256,
                detail or {"status": "completed", "exit_code": 0},
            )
            if end
            else None,
            tuple(gaps),
        )
        self.write(Batch(_blocks(facts, data, moments, cut, holes), [facts]))
        return facts


def _blocks(facts, data, moments, cut, holes):
    blocks, at = [], 0
    edges = sorted({edge for start, length in holes for edge in (start, start + length)})
    while at < len(data):
        stop = min([at + cut, len(data), *(edge for edge in edges if edge > at)])
        if not any(start <= at < start + length for start, length in holes):
            head = data[lines.last_end(data[:at], facts.kind) : at]
            ended = stop == len(data) and facts.end is not None
            blocks.append(
                seal(facts, at, data[at:stop], _marks(moments[at:stop]), head, ended=ended)
            )
        at = stop
    return blocks


def _marks(moments):
    marks = []
    for moment in moments:
        if marks and marks[-1].time_us == moment:
            marks[-1] = Mark(marks[-1].length + 1, moment)
        else:
            marks.append(Mark(1, moment))
    return tuple(marks)


@pytest.fixture
def shelf(request):
    from loghaul_ingest.stores.memory import named

    name = request.node.nodeid
    store = named(name)
    assert isinstance(store, MemoryStore)
    return Shelf(store, f"memory:{name}")
