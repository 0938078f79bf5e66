"""The shell around the state machine, stepped by hand over a broker and a store in memory."""

import asyncio
import json

import pytest

from loghaul.chunk import Chunk, End, Mark, Record, StreamKey
from loghaul_ingest.block import Extent
from loghaul_ingest.errors import StoreError
from loghaul_ingest.shell import Pace, first_missing
from loghaul_ingest.sources.memory import MemoryBroker
from loghaul_ingest.stack import stack
from loghaul_ingest.stores.memory import MemoryStore

KEY = StreamKey("run", "0" * 32, "stdout")
PACE = Pace(commit_seconds=0.0)


class Permanent(StoreError):
    permanent = True


class Failing:
    """A writer that fails as it is told before it passes calls on."""

    def __init__(self, writer, refuse=lambda batch: None):
        self.writer, self.refuse, self.failures = writer, refuse, []

    async def extents(self, streams):
        self._fail()
        return await self.writer.extents(streams)

    async def write(self, batch):
        self._fail()
        if (error := self.refuse(batch)) is not None:
            raise error
        return await self.writer.write(batch)

    async def compact(self, stream):
        return await self.writer.compact(stream)

    def _fail(self):
        if self.failures:
            raise self.failures.pop(0)


def chunk(offset, data, end=None, key=KEY, common=True):
    marks = (Mark(len(data), 1_000),) if data else ()
    facts = {"run.id": key.run, "role": "process"} if common else None
    return Chunk(key, "text", offset, data, marks, 5, facts, end)


def end(length):
    return chunk(length, b"", End(length, 9, "exit", None, {"exit_code": 0}))


def build(broker, store, tmp_path, writer=None, **options):
    writer = writer or store.writer()
    return stack(broker.join(), writer, store.reader(), tmp_path, pace=PACE, **options)


def drained(worker):
    async def run():
        for _ in range(3):
            await worker.step(0)
        await worker.drain()

    asyncio.run(run())


def contents(store, key=KEY):
    reader = store.reader()
    heads = list(reader.heads(key))
    assert sum(head.length for head in heads) == max((head.end for head in heads), default=0)
    return b"".join(block.data for block in reader.load([head.key for head in heads]))


def test_what_was_sent_is_stored_and_then_committed(tmp_path):
    broker, store = MemoryBroker(["p"]), MemoryStore()
    broker.send("p", chunk(0, b"one\ntwo\n"))
    broker.send("p", end(8))
    drained(build(broker, store, tmp_path))
    assert contents(store) == b"one\ntwo\n"
    (row,) = store.reader().streams("run")
    assert (row.lines, row.stored, row.facts.end.length) == (2, 8, 8)
    assert broker.committed["p"] == 1


def test_nothing_is_committed_before_the_store_has_it(tmp_path):
    broker, store = MemoryBroker(["p"]), MemoryStore()
    failing = Failing(store.writer())
    worker = build(broker, store, tmp_path, failing)
    broker.send("p", chunk(0, b"one\n"))

    async def run():
        await worker.step(0)
        failing.failures = [StoreError("no answer")] * 2
        worker.core.flush()
        for _ in range(5):
            await worker.step(0)
        assert broker.committed["p"] == -1
        assert "no answer" in (worker.failing or "")
        while failing.failures or worker.working:
            await worker.step(0.05)
        await worker.drain()

    asyncio.run(run())
    assert contents(store) == b"one\n"
    assert broker.committed["p"] == 0
    assert (worker.failing, worker.retries) == (None, 2)


def test_chunks_that_come_again_cut_differently_are_stored_once(tmp_path):
    broker, store = MemoryBroker(["p"]), MemoryStore()
    data = b"".join(b"line %d\n" % number for number in range(100))
    for start, stop in ((0, 300), (100, 500), (0, 50), (450, len(data)), (0, len(data))):
        broker.send("p", chunk(start, data[start:stop]))
    worker = build(broker, store, tmp_path)
    drained(worker)
    assert contents(store) == data
    assert worker.core.counts.repeated_bytes == 200 + 50 + 50 + len(data)


def test_a_second_worker_goes_on_where_the_first_was_and_knows_how_the_line_began(tmp_path):
    broker, store = MemoryBroker(["p"]), MemoryStore()
    broker.send("p", chunk(0, b"one\nERROR tw"))
    first = build(broker, store, tmp_path)
    drained(first)
    asyncio.run(first.finish())
    broker.send("p", chunk(12, b"o\nthree\n", common=False))
    drained(build(broker, store, tmp_path))
    heads = list(store.reader().heads(KEY))
    assert [(head.offset, head.head, head.lines) for head in heads] == [(0, 0, 1), (12, 8, 2)]
    assert heads[1].levels == {"error": 1}


def test_a_record_that_is_no_chunk_is_a_dead_letter_and_the_others_go_on(tmp_path):
    broker, store = MemoryBroker(["p"]), MemoryStore()
    broker.send("p", Record(b"k", b"garbage", [("schema", b"x")]))
    broker.send("p", chunk(0, b"one\n"))
    drained(build(broker, store, tmp_path))
    assert contents(store) == b"one\n"
    assert broker.committed["p"] == 1
    (letter,) = tmp_path.glob("*.json")
    assert "not a chunk" in json.loads(letter.read_bytes())["reason"]
    assert letter.with_suffix(".bin").read_bytes() == b"garbage"


def test_a_block_that_the_store_refuses_is_tried_without_words(tmp_path):
    broker, store = MemoryBroker(["p"]), MemoryStore()

    def refuse(batch):
        return Permanent("bad words") if any(b"poison" in b.words for b in batch.blocks) else None

    broker.send("p", chunk(0, b"poison\n"))
    drained(build(broker, store, tmp_path, Failing(store.writer(), refuse)))
    assert contents(store) == b"poison\n"
    assert not list(tmp_path.glob("*.json"))


def test_a_block_that_no_store_takes_is_a_dead_letter_a_gap_and_no_obstacle(tmp_path):
    broker, store = MemoryBroker(["p"]), MemoryStore()
    good = KEY._replace(stream="stderr")

    def refuse(batch):
        return Permanent("bad bytes") if any(b"poison" in b.data for b in batch.blocks) else None

    broker.send("p", chunk(0, b"poison\n"))
    broker.send("p", chunk(0, b"good\n", key=good))
    broker.send("p", end(7))
    drained(build(broker, store, tmp_path, Failing(store.writer(), refuse)))
    assert contents(store, good) == b"good\n"
    (letter,) = tmp_path.glob("*.bin")
    assert letter.read_bytes() == b"poison\n"
    row = next(row for row in store.reader().streams("run") if row.facts.stream == KEY)
    ((offset, length, reason),) = row.facts.gaps
    assert (offset, length, "dead letter" in reason) == (0, 7, True)
    assert broker.committed["p"] == 2


def test_what_still_comes_of_a_deleted_run_is_dropped_and_committed(tmp_path):
    broker, store = MemoryBroker(["p"]), MemoryStore()
    broker.send("p", chunk(0, b"one\n"))
    worker = build(broker, store, tmp_path)
    drained(worker)
    asyncio.run(store.writer().delete_run("run"))
    broker.send("p", chunk(4, b"two\n"))
    drained(worker)
    assert store.reader().streams("run") == []
    assert broker.committed["p"] == 1
    assert worker.core.counts.dropped_bytes >= 4


def test_a_hole_of_an_ended_stream_becomes_a_gap(tmp_path):
    broker, store = MemoryBroker(["p"]), MemoryStore()
    broker.send("p", chunk(0, b"one\n"))
    broker.send("p", chunk(8, b"three\n"))
    broker.send("p", end(14))
    drained(build(broker, store, tmp_path))
    (row,) = store.reader().streams("run")
    assert [(gap.offset, gap.length) for gap in row.facts.gaps] == [(4, 4)]
    assert row.holes == ((4, 4),)


def test_bytes_that_fill_a_hole_late_are_stored_where_they_belong(tmp_path):
    broker, store = MemoryBroker(["p"]), MemoryStore()
    broker.send("p", chunk(8, b"three\n"))
    worker = build(broker, store, tmp_path, patience_seconds=1e6)
    drained(worker)
    broker.send("p", chunk(0, b"one\ntwo\n"))
    broker.send("p", end(14))
    drained(worker)
    (row,) = store.reader().streams("run")
    assert (row.facts.gaps, row.holes, row.lines) == ((), (), 3)


def test_a_worker_that_lost_a_partition_commits_nothing_of_it(tmp_path):
    broker, store = MemoryBroker(["p"]), MemoryStore()
    broker.send("p", chunk(0, b"one\n"))
    first = build(broker, store, tmp_path)
    asyncio.run(first.step(0))
    broker.join()
    broker.leave(first._source)
    drained(first)
    assert broker.committed["p"] == -1


def test_a_tap_hears_every_chunk_and_what_it_raises_goes_no_further(tmp_path):
    broker, store, heard = MemoryBroker(["p"]), MemoryStore(), []
    broker.send("p", chunk(0, b"one\n"))

    def broken(chunk):
        raise RuntimeError("mine")

    drained(build(broker, store, tmp_path, taps=[broken, lambda c: heard.append(c.data)]))
    assert heard == [b"one\n"]
    assert contents(store) == b"one\n"


def test_small_blocks_are_merged_when_a_stream_has_ended(tmp_path):
    broker, store = MemoryBroker(["p"]), MemoryStore()
    worker = build(broker, store, tmp_path)
    for number in range(5):
        broker.send("p", chunk(number * 4, b"one\n"))
        drained(worker)
    assert len(list(store.reader().heads(KEY))) == 5
    broker.send("p", end(20))
    drained(worker)
    asyncio.run(worker.compact_all(5.0))
    assert len(list(store.reader().heads(KEY))) == 1
    assert contents(store) == b"one\n" * 5


def test_nothing_more_is_fetched_while_the_store_is_slow(tmp_path):
    broker, store = MemoryBroker(["p"]), MemoryStore()
    for number in range(50):
        broker.send("p", chunk(number * 1000, b"x" * 999 + b"\n"))
    failing = Failing(store.writer())
    pace = Pace(fetch_bytes=1000, held_bytes=5000, commit_seconds=0.0)
    worker = stack(broker.join(), failing, store.reader(), tmp_path, pace=pace)

    async def run():
        failing.failures = [StoreError("slow")] * 3
        for _ in range(60):
            await worker.step(0)
        assert worker.core.held_bytes <= 6000
        worker.stop()
        await worker.finish()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("start", "expected"), [(0, 4), (4, 4), (5, 5), (6, 10), (9, 10), (10, 10), (30, 30)]
)
def test_the_first_missing_byte_is_found_behind_holes(start, expected):
    assert first_missing(Extent(10, ((4, 2),)), start) == expected
