"""The worker of a topic, with a source that does on cue what groups do at any time."""

from loghaul import config
from loghaul.chunk import Chunk, Mark, StreamKey
from loghaul_ingest import group
from loghaul_ingest.sources.base import Assigned, Fetched, Partition, Revoked
from loghaul_ingest.stores import open_reader

KEY = StreamKey("run", "a" * 32, "stdout")
FIRST, AGAIN = Partition("logs/0", 1), Partition("logs/0", 2)


class Regrouping:
    """Its one partition goes and comes back after its end was asked for, before it was read."""

    joined = True
    address = "nowhere"

    def __init__(self, *_, **__):
        self.share, self.read = frozenset(), False
        chunk = Chunk(KEY, "text", 0, b"line\n", (Mark(5, 1_000_000),), 5, {"run.id": "run"})
        self.script = [
            [Assigned(FIRST)],
            [],
            [Revoked(FIRST), Assigned(AGAIN)],
            [],
            [Fetched(AGAIN, 0, chunk)],
        ]

    async def open(self):
        pass

    async def fetch(self, max_bytes, timeout_seconds):
        events = self.script.pop(0) if self.script else []
        for event in events:
            if isinstance(event, Assigned):
                self.share = frozenset([event.partition])
            self.read |= isinstance(event, Fetched)
        return events

    async def ends(self):
        return dict.fromkeys(self.share, 1)

    async def reached(self, ends):
        return self.read or not self.share & ends.keys()

    async def commit(self, positions):
        pass

    async def close(self):
        pass


def test_once_reads_a_partition_that_moved_away_and_back_before_it_was_read(tmp_path, monkeypatch):
    monkeypatch.setattr(group, "KafkaSource", Regrouping)
    settings = config.load(home=tmp_path, transport="kafka://nowhere/logs")

    group.once(settings)

    reader = open_reader(settings.store)
    try:
        (head,) = reader.heads(KEY)
        assert [block.data for block in reader.load([head.key])] == [b"line\n"]
    finally:
        reader.close()
