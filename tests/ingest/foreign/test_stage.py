"""What others write, through the whole worker over a broker in memory: replayed, dealt out anew,
cut short at any moment. Nothing twice, nothing lost.
"""

import asyncio
import json
import random

import pytest

from loghaul.chunk import Chunk, Mark, Record, StreamKey
from loghaul_ingest.errors import StoreError
from loghaul_ingest.foreign.detect import adapt
from loghaul_ingest.foreign.entry import target
from loghaul_ingest.foreign.stage import Point, pack, unpack
from loghaul_ingest.growing import Limits
from loghaul_ingest.shell import Pace
from loghaul_ingest.sources.memory import MemoryBroker
from loghaul_ingest.stack import stack
from loghaul_ingest.stores.memory import MemoryStore

PACE = Pace(fetch_bytes=600, batch_bytes=3000, commit_seconds=0.0, idle_seconds=0.0)
LIMITS = Limits(block_bytes=300, block_lines=4, age_us=1)
TIME = 1_763_937_600


def fluent(number, pod, text, **more):
    body = {
        "@timestamp": TIME + number,
        "log": text,
        "stream": "stdout",
        "kubernetes": {"pod_name": pod, "namespace_name": "ml", "host": "node-a", **more},
    }
    return Record(b"", json.dumps(body).encode(), [])


def otlp(number, run, count):
    records = [
        {"timeUnixNano": f"{TIME + number}000000000", "body": {"stringValue": f"{number}.{i}"}}
        for i in range(count)
    ]
    resource = {"attributes": [{"key": "loghaul.run.id", "value": {"stringValue": run}}]}
    body = {"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": records}]}]}
    return Record(b"", json.dumps(body).encode(), [])


def build(broker, store, tmp_path, writer=None):
    writer = writer or store.writer()
    return stack(broker.join(), writer, store.reader(), tmp_path, pace=PACE, limits=LIMITS)


def drained(*workers):
    async def run():
        for _ in range(400):
            for worker in workers:
                await worker.step(0)
        for worker in workers:
            await worker.drain()
            await worker.finish()

    asyncio.run(run())


def contents(store):
    """Every stream's bytes as a reader walks them: by offset, what overlaps once."""
    found = {}
    reader = store.reader()
    for run in list(store.runs):
        for row in reader.streams(run):
            data = b""
            for block in reader.load([head.key for head in reader.heads(row.facts.stream)]):
                assert block.head.offset <= len(data), f"hole in {row.facts.stream}"
                data += block.data[len(data) - block.head.offset :]
            found[row.facts.stream] = data
    return found


def expected(broker):
    """Every stream as the records say it, in their order."""
    found = {}
    for name, records in broker.records.items():
        for record in records:
            if record.value.startswith(b"\x00"):
                continue
            for entry in adapt(record, TIME * 1_000_000):
                key = target(name, entry.producer, entry.name).key
                found[key] = found.get(key, b"") + entry.data
    return found


def test_a_record_is_stored_under_its_run_and_committed(tmp_path):
    broker, store = MemoryBroker(["logs/0"]), MemoryStore()
    labels = {"loghaul.dev/run-id": "run-7"}
    broker.send("logs/0", fluent(1, "train-0", "step 1\n", labels=labels))
    broker.send("logs/0", fluent(2, "train-0", "step 2\n", labels=labels))

    drained(build(broker, store, tmp_path))

    (row,) = store.reader().streams("run-7")
    assert list(contents(store).values()) == [b"step 1\nstep 2\n"]
    assert broker.committed["logs/0"] == 1
    assert row.facts.common["log.file.path"] == "containers/train-0.txt"
    assert row.facts.common["run.node"] == "node-a"
    assert row.time_max == (TIME + 2) * 1_000_000


def test_a_topic_that_is_read_again_from_its_beginning_is_stored_once(tmp_path):
    broker, store = MemoryBroker(["logs/0"]), MemoryStore()
    for number in range(40):
        broker.send("logs/0", fluent(number, f"pod-{number % 3}", f"line {number}\n"))
        broker.send("logs/0", otlp(number, "run-7", 5))
    drained(build(broker, store, tmp_path))
    before = contents(store)

    for _ in range(2):
        broker.committed["logs/0"] = -1
        drained(build(broker, store, tmp_path))

    assert before == contents(store) == expected(broker)


@pytest.mark.parametrize("cut", range(1, 24, 3))
def test_a_record_that_was_cut_by_a_block_goes_on_where_it_was_cut(cut, tmp_path):
    broker, store = MemoryBroker(["logs/0"]), MemoryStore()
    for number in range(4):
        broker.send("logs/0", fluent(number, "pod", "x" * 900 + f" {number}\n"))
    writer = Dying(store.writer(), cut)
    worker = build(broker, store, tmp_path, writer)

    async def run():
        for _ in range(60):
            await worker.step(0)
            worker.core.flush()

    asyncio.run(run())
    stop(broker, worker)
    drained(build(broker, store, tmp_path))

    assert expected(broker) == contents(store)


@pytest.mark.parametrize("lost", [0, 1, 5])
def test_blocks_that_are_missing_between_others_are_filled_exactly(lost, tmp_path):
    broker, store = MemoryBroker(["logs/0"]), MemoryStore()
    for number in range(30):
        broker.send("logs/0", fluent(number, "pod", "x" * 200 + f" {number}\n"))
    drained(build(broker, store, tmp_path))
    (stream,) = store.runs["unassigned/ml/pod"].values()
    for offset in sorted(stream.blocks)[lost : lost + 2]:
        del stream.blocks[offset]
    broker.committed["logs/0"] = -1

    drained(build(broker, store, tmp_path))

    assert expected(broker) == contents(store)


def test_records_of_others_and_chunks_share_a_partition(tmp_path):
    broker, store = MemoryBroker(["logs/0"]), MemoryStore()
    key = StreamKey("own", "a" * 32, "stdout")
    for number in range(30):
        broker.send("logs/0", fluent(number, "pod", f"line {number}\n"))
        data = b"own %03d\n" % number
        broker.send("logs/0", Chunk(key, "text", number * 8, data, (Mark(8, 1),), 5, {}))

    drained(build(broker, store, tmp_path))

    found = contents(store)
    assert b"".join(b"own %03d\n" % number for number in range(30)) == found.pop(key)
    assert list(expected_of_foreign(broker).values()) == list(found.values())
    assert broker.committed["logs/0"] == 59


def test_a_poison_record_never_stops_its_neighbours(tmp_path):
    broker, store = MemoryBroker(["logs/0"]), MemoryStore()
    poison = [
        Record(b"", b"", []),
        Record(b"", b"\x00\x01\xff random", []),
        Record(b"", b"text", [("schema", b"99")]),
        Record(b"", b"text", [("loghaul-format", b"morse")]),
        Record(b"", b"[" * 5000, [("loghaul-format", b"otlp_json")]),
        Record(b"", b"\x0a\x05\xff\xff\xff\xff\xff", []),
    ]
    for number, record in enumerate(poison):
        broker.send("logs/0", fluent(number, "pod", f"line {number}\n"))
        broker.send("logs/0", record)
    broker.send("logs/0", fluent(9, "pod", "last\n"))

    drained(build(broker, store, tmp_path))

    lines = b"".join(b"line %d\n" % number for number in range(len(poison)))
    assert [lines + b"last\n"] == list(contents(store).values())
    assert len(poison) == len(list(tmp_path.glob("*.json")))
    assert len(broker.records["logs/0"]) - 1 == broker.committed["logs/0"]


@pytest.mark.parametrize("seed", range(12))
def test_replays_rebalances_and_deaths_lose_and_repeat_nothing(seed, tmp_path):
    chance = random.Random(seed)
    broker, store = MemoryBroker(["logs/0", "logs/1", "logs/2"]), MemoryStore()
    poison = 0

    def send(number):
        nonlocal poison
        name = chance.choice(list(broker.records))
        kind = chance.random()
        if kind < 0.05:
            broker.send(name, Record(b"", b"\x00poison", []))
            poison += 1
        elif kind < 0.3:
            broker.send(name, otlp(number, f"run-{number % 2}", chance.randrange(1, 9)))
        else:
            text = "x" * chance.choice([0, 5, 80, 700]) + f" {number}" + chance.choice(["", "\n"])
            broker.send(name, fluent(number, f"pod-{chance.randrange(4)}", text))

    def worker_of():
        return build(broker, store, tmp_path, Torn(store.writer(), chance))

    async def run():
        workers = [worker_of() for _ in range(2)]
        zombies = []
        for number in range(250):
            send(number)
            worker = chance.choice(workers)
            await worker.step(0)
            if chance.random() < 0.2:
                worker.core.flush()
            if chance.random() < 0.04:
                broker.rebalance()
            if chance.random() < 0.04:
                # Its partitions move on while it still has bytes in its hands and does not know.
                workers.remove(worker)
                zombies.append(worker)
                stop(broker, worker)
                workers.append(worker_of())
            elif chance.random() < 0.04:
                # It dies while a batch is under way, of which some blocks are stored.
                workers.remove(worker)
                worker._writer.torn = True
                worker.core.flush()
                worker._write(True)
                await asyncio.sleep(0)
                stop(broker, worker)
                workers.append(worker_of())
            if chance.random() < 0.05:
                for run in list(store.runs):
                    for key in list(store.runs[run]):
                        await store.writer().compact(key)
            if zombies and chance.random() < 0.3:
                zombie = chance.choice(zombies)
                zombie._write(True)
                await asyncio.sleep(0)
                zombie._collect()
        for _ in range(300):
            for worker in workers:
                await worker.step(0)
        for worker in workers:
            await worker.drain()

    asyncio.run(run())

    found = contents(store)
    assert expected(broker) == found
    assert poison <= len(list(tmp_path.glob("*.json")))


def test_a_point_keeps_its_order_as_a_number():
    points = [Point(0, 1), Point(0, 8_000_000), Point(1, 1), Point(2**39, 5)]

    numbers = [pack(point) for point in points]

    assert sorted(numbers) == numbers
    assert points == [unpack(number) for number in numbers]


class Dying:
    """A writer that dies after some batches: what it wrote is there, and it never answers."""

    def __init__(self, writer, batches):
        self.writer, self.batches = writer, batches

    async def extents(self, streams):
        return await self.writer.extents(streams)

    async def write(self, batch):
        self.batches -= 1
        if self.batches < 0:
            await asyncio.Event().wait()
        found = await self.writer.write(batch)
        if self.batches == 0:
            await asyncio.Event().wait()
        return found

    async def compact(self, stream):
        return await self.writer.compact(stream)


class Torn(Dying):
    """Once `torn` it stores some blocks of a batch and never answers."""

    def __init__(self, writer, chance):
        super().__init__(writer, 10**9)
        self.torn, self.chance = False, chance

    async def write(self, batch):
        if not self.torn:
            return await self.writer.write(batch)
        some = [block for block in batch.blocks if self.chance.random() < 0.5]
        await self.writer.write(batch._replace(blocks=some))
        await asyncio.Event().wait()


def stop(broker, worker):
    """Take a worker out without a word to it: nothing more of it is committed."""
    broker.leave(worker._source)
    worker._source.commit = _nothing


async def _nothing(positions):
    raise StoreError("not ours any more")


def expected_of_foreign(broker):
    copy = MemoryBroker(list(broker.records))
    for name, records in broker.records.items():
        for record in records:
            if not any(header == "schema" for header, _ in record.headers):
                copy.send(name, record)
    return expected(copy)
