"""Records of others in OpenSearch: a worker that comes after another goes on where that one was."""

import asyncio
import json

import pytest

from loghaul.chunk import Record
from loghaul_ingest.growing import Limits
from loghaul_ingest.sources.memory import MemoryBroker
from loghaul_ingest.stack import stack
from loghaul_ingest.stores import open_reader, open_writer

LIMITS = Limits(block_bytes=300, block_lines=4)


def record(number):
    body = {
        "message": f"step {number} " + "x" * (number % 7 * 60),
        "timestamp": f"2026-11-23T22:26:{number % 60:02d}.5Z",
        "source_type": "docker_logs",
        "stream": "stdout",
        "container_name": f"train-{number % 3}",
        "run": {"id": "by-vector"},
    }
    return Record(b"", json.dumps(body).encode(), [])


@pytest.mark.parametrize("version", ["2.19", "3"])
def test_a_topic_that_is_read_three_times_is_stored_once(version, opensearch_stores, tmp_path):
    store = opensearch_stores(version)()
    broker = MemoryBroker(["logs/0"])
    wanted = {}
    for number in range(120):
        broker.send("logs/0", record(number))
        text = json.loads(record(number).value)["message"].encode() + b"\n"
        name = f"train-{number % 3}"
        wanted[name] = wanted.get(name, b"") + text

    async def work(steps):
        writer, reader = open_writer(store), open_reader(store)
        worker = stack(broker.join(), writer, reader, tmp_path, limits=LIMITS)
        for _ in range(steps):
            await worker.step(0.05)
        if steps > 3:
            await worker.drain()
        await worker.finish()
        await writer.close()
        reader.close()

    for steps in (3, 20, 20):
        broker.committed["logs/0"] = -1
        asyncio.run(work(steps))

    reader = open_reader(store)
    found = {}
    for row in reader.streams("by-vector"):
        heads = list(reader.heads(row.facts.stream))
        assert sum(head.length for head in heads) == heads[-1].end
        blocks = reader.load([head.key for head in heads])
        found[row.facts.common["container.name"]] = b"".join(block.data for block in blocks)
    reader.close()
    assert found == wanted
    assert not list(tmp_path.glob("*.json"))
