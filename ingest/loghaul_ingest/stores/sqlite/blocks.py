"""The blocks of one stream as compaction sees them: read, replaced, counted anew."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from loghaul_ingest.block import Facts, Head
from loghaul_ingest.stores import compaction, totals
from loghaul_ingest.stores.base import Stored
from loghaul_ingest.stores.sqlite import storing
from loghaul_ingest.stores.sqlite.codec import Codec, pack_levels
from loghaul_ingest.stores.sqlite.rows import HEAD, head_of


class StreamBlocks:
    """The blocks of one stream."""

    def __init__(
        self, connection: sqlite3.Connection, number: int, facts: Facts, codec: Codec
    ) -> None:
        self.connection = connection
        self.number = number
        self.facts = facts
        self.codec = codec

    def heads(self, start: int) -> list[Head]:
        """The heads from an offset on, by offset."""
        rows = self.connection.execute(
            f"SELECT {HEAD} FROM blocks WHERE stream = ? AND offset >= ? ORDER BY offset",
            (self.number, start),
        )
        return [head_of(self.facts.stream, self.facts.kind, row) for row in rows]

    def load(self, head: Head) -> Stored:
        """The bytes of a block that is known to be there."""
        row = self.connection.execute(
            "SELECT data, marks FROM blocks JOIN content USING (id) "
            "WHERE stream = ? AND offset = ?",
            (self.number, head.offset),
        ).fetchone()
        return self._stored(head, row)

    def _stored(self, head: Head, packed: tuple[bytes, bytes]) -> Stored:
        return Stored(head, self.codec.unpack(packed[0]), self.codec.unpack_marks(packed[1]))

    def below(self, offset: int) -> Iterator[Stored]:
        """Blocks that begin below an offset, nearest first."""
        while True:
            row = self.connection.execute(
                f"SELECT {HEAD} FROM blocks WHERE stream = ? AND offset < ? "
                "ORDER BY offset DESC LIMIT 1",
                (self.number, offset),
            ).fetchone()
            if row is None:
                return
            yield self.load(head_of(self.facts.stream, self.facts.kind, row))
            offset = row[0]

    def replace(self, group: compaction.Group) -> int:
        """Put merged blocks in the place of a group's; return how many fewer there are."""
        rows = self.connection.execute(
            "SELECT id, offset, data, marks FROM blocks JOIN content USING (id) "
            "WHERE stream = ? AND offset BETWEEN ? AND ?",
            (self.number, group.heads[0].offset, group.heads[-1].offset),
        ).fetchall()
        found = {offset: (data, marks) for _, offset, data, marks in rows}
        merged = compaction.merge(
            group, self.facts, lambda head: self._stored(head, found[head.offset]), self.below
        )
        if len(merged) == len(group.heads) and not group.overlapping:
            return 0
        # What the ids have in `words` stays until the index is built anew: deleting from a
        # contentless index costs as much as indexing, and a reader joins with `blocks` anyway.
        ids = [row[:1] for row in rows]
        self.connection.executemany("DELETE FROM blocks WHERE id = ?", ids)
        self.connection.executemany("DELETE FROM content WHERE id = ?", ids)
        packed = storing.pack(merged, self.codec)
        storing.insert(self.connection, [(self.number, item) for item in packed])
        self.connection.execute(
            "UPDATE meta SET value = value + ? WHERE name = 'merged_ids'", (len(ids),)
        )
        return len(ids) - len(merged)

    def finish(self) -> None:
        """Count the last line of an ended stream, where it was sealed as an unfinished one."""
        row = self.connection.execute(
            f"SELECT {HEAD} FROM blocks WHERE stream = ? ORDER BY offset DESC LIMIT 1",
            (self.number,),
        ).fetchone()
        if row is None:
            return
        head = head_of(self.facts.stream, self.facts.kind, row)
        block = compaction.finished(head, self.facts, self.load, self.below)
        if block is None:
            return
        self.connection.execute(
            "UPDATE blocks SET lines = ?, levels = ? WHERE stream = ? AND offset = ?",
            (block.head.lines, pack_levels(block.head.levels), self.number, head.offset),
        )
        self._count_anew()

    def recount(self, repaired: bool) -> None:
        """Bring the row of the stream in line, and tell readers under way that blocks moved."""
        self.connection.execute("UPDATE meta SET value = value + 1 WHERE name = 'generation'")
        self.connection.execute(
            "UPDATE streams SET longest = (SELECT max(length) FROM blocks WHERE stream = ?1) "
            "WHERE id = ?1",
            (self.number,),
        )
        if repaired:
            self._count_anew()

    def _count_anew(self) -> None:
        heads = self.heads(0)
        spans = totals.covered((head.offset, head.length) for head in heads)
        levels: dict[str, int] = {}
        for head in heads:
            for level, count in head.levels.items():
                levels[level] = levels.get(level, 0) + count
        self.connection.execute(
            "UPDATE streams SET ragged = ?, lines = ?, progress = ?, levels = ?, time_min = ?, "
            "time_max = ? WHERE id = ?",
            (
                int(spans != [(0, heads[-1].end)]),
                sum(head.lines for head in heads),
                sum(head.progress for head in heads),
                pack_levels(levels) or b"{}",
                min(head.time_min for head in heads),
                max(head.time_max for head in heads),
                self.number,
            ),
        )
