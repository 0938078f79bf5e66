"""The worker's protocol under a seeded simulation.

Two workers share a broker and a store. Everything that takes time in reality is here an item in a
list from which the seed picks: writes are applied late, answered later, lost after they were
applied; questions are answered with what was true then; partitions move while a write is under way
and the old owner goes on writing (a zombie); producers send again, cut differently, out of order,
lose bytes and say so; runs are deleted and streams compacted at any moment.
"""

import random
from itertools import accumulate

import pytest

from loghaul.chunk import Chunk, End, Gap, Mark, StreamKey
from loghaul_ingest.assemble import Assembler, Limits
from loghaul_ingest.block import Block, Extent, Head
from loghaul_ingest.growing import NOTHING, Beginning, slice_marks
from loghaul_ingest.lines import last_end
from loghaul_ingest.ranges import Ranges

LIMITS = Limits(block_bytes=24, block_lines=4, age_us=50, open_bytes=120)
OTHER_LIMITS = Limits(block_bytes=17, block_lines=3, age_us=80, open_bytes=120)


def seal(facts, cut, position):
    """Stand-in: keeps what it was given where the tests can see it."""
    offset, data, marks, head, ended = cut
    assert data, "an empty block was sealed"
    assert sum(mark.length for mark in marks) == len(data)
    plain = Head(
        facts.stream, facts.kind, offset, len(data), head.length, 0, 0, 0, position=position
    )
    return Block(plain, data, tuple(marks), head.data, b"ended" if ended else b"", frozenset())


EARLY, LATE = 5, 15


def started(key):
    """The second writer of a run starts after the deletion of the first one."""
    return EARLY if key.writer == "w0" else LATE


class Store:
    """Create under (stream, offset); a batch may be applied long before its writer hears of it."""

    def __init__(self):
        self.blocks, self.facts, self.tombstones = {}, {}, {}

    def write(self, batch):
        for facts in batch.facts:
            if not self.deleted(facts.stream):
                old = self.facts.get(facts.stream)
                end = facts.end or (old.end if old else None)
                gaps = tuple({*facts.gaps, *(old.gaps if old else ())})
                self.facts[facts.stream] = (facts.common, end, gaps)
                self.facts[facts.stream] = _Facts(facts.common or (old and old.common), end, gaps)
        return [block.head.key for block in batch.blocks if not self._create(block)]

    def deleted(self, key):
        return key.run in self.tombstones and started(key) <= self.tombstones[key.run]

    def _create(self, block):
        key = block.head.stream
        if self.deleted(key):
            return False
        return self.blocks.setdefault(key, {}).setdefault(block.head.offset, block) is block

    def extent(self, key):
        if self.deleted(key):
            return None
        stored = self.ranges(key)
        holes = stored.missing(0, stored.end)
        return Extent(stored.end, tuple((start, end - start) for start, end in holes))

    def ranges(self, key):
        blocks = self.blocks.get(key, {}).values()
        return Ranges((block.head.offset, block.head.end) for block in blocks)

    def bytes_at(self, key, size):
        """Walk by offset, skipping what was given; None where nothing is."""
        found = [None] * size
        for block in self.blocks.get(key, {}).values():
            found[block.head.offset : block.head.end] = block.data
        return found

    def head_at(self, key, kind, offset):
        data = self.bytes_at(key, offset)
        start = len(data)
        while start and data[start - 1] is not None:
            start -= 1
        before = bytes(data[start:])
        head = before[last_end(before, kind, more=False) :]
        return Beginning(head, len(head)) if kind != "blob" else NOTHING

    def compact(self, key, source):
        blocks = sorted(self.blocks.get(key, {}).values(), key=lambda block: block.head.offset)
        if len(blocks) < 2:
            return
        at = source.randrange(len(blocks) - 1)
        group = blocks[at : at + source.randrange(2, 5)]
        data = b""
        for block in group:
            if block.head.offset > group[0].head.offset + len(data):
                return
            data += block.data[max(0, group[0].head.offset + len(data) - block.head.offset) :]
        head = group[0].head
        merged = Head(head.stream, head.kind, head.offset, len(data), head.head, 0, 0, 0)
        for block in group:
            del self.blocks[key][block.head.offset]
        self.blocks[key][head.offset] = Block(
            merged, data, (Mark(len(data), 0),), group[0].words, group[-1].words_high, frozenset()
        )

    def delete(self, run):
        # The second writer of a run starts after this.
        self.tombstones[run] = EARLY
        for table in (self.blocks, self.facts):
            for key in [key for key in table if key.run == run and self.deleted(key)]:
                del table[key]


class _Facts:
    def __init__(self, common, end, gaps):
        self.common, self.end, self.gaps = common, end, gaps


class Broker:
    """Partitions of records at positions that are ordered but not dense."""

    def __init__(self, source, names):
        self.random = source
        self.records = {name: [] for name in names}
        self.committed = {name: -1 for name in names}
        self.epochs = {name: 0 for name in names}

    def append(self, name, chunk):
        before = self.records[name][-1][0] if self.records[name] else -1
        self.records[name].append((before + self.random.randrange(1, 4), chunk))

    def next(self, name, behind):
        return next((r for r in self.records[name] if r[0] > behind), None)


class Worker:
    """An assembler with its questions and writes under way."""

    def __init__(self, limits=LIMITS):
        self.limits = limits
        self.core = Assembler(seal, limits, patience_us=10**9)
        self.fetched = {}
        self.asked, self.answered = [], []
        self.writing, self.written = [], []


class Simulation:
    def __init__(self, seed, calm=False):
        self.random = random.Random(seed)
        self.calm = calm
        self.now = 1_000
        self.store = Store()
        self.names = ["p0", "p1", "p2"][: self.random.randrange(1, 4)]
        self.broker = Broker(self.random, self.names)
        self.workers = [Worker(), Worker(LIMITS if calm else OTHER_LIMITS)]
        self.streams = {}
        self.losses = {}
        self._produce()
        for name in self.names:
            self._assign(name, self.random.randrange(2))
            if not calm and self.random.random() < 0.5:
                # A zombie from the start: both fetch, seal and write the same bytes.
                self._assign(name, 0)
                self._assign(name, 1)

    # -- the producers

    def _produce(self):
        logs = {name: [] for name in self.names}
        for number in range(self.random.randrange(1, 5)):
            key = StreamKey(f"run{number % 2}", f"w{number // 2}", f"s{number}")
            kind = self.random.choice(("text", "text", "events", "blob"))
            letters = b"ab\n\r\n" if self.random.random() < 0.7 else b"abcdefg\n"
            data = bytes(self.random.choices(letters, k=self.random.randrange(0, 160)))
            self.streams[key] = (kind, data)
            logs[self.random.choice(self.names)].append(self._records(key, kind, data))
        for name, producers in logs.items():
            while any(producers):
                records = self.random.choice([records for records in producers if records])
                self.broker.append(name, records.pop(0))
            if not self.calm:
                self._shuffle(name)

    def _records(self, key, kind, data):
        """Chunks of a stream, some sent again and cut differently, some lost and reported."""
        records, at, losses = [], 0, []
        while at < len(data):
            if not self.calm and records and self.random.random() < 0.15:
                at = max(0, at - self.random.randrange(1, 60))
            length = min(self.random.choice((1, 3, 10, 40, 90)), len(data) - at)
            if not self.calm and self.random.random() < 0.05:
                gap = Gap(at, length, "spool full")
                losses.append(gap)
                records.append(self._chunk(key, kind, at + length, b"", gaps=(gap,)))
            else:
                records.append(self._chunk(key, kind, at, data[at : at + length]))
            at += length
        end = End(len(data), 7, "exit", None, {})
        records.append(self._chunk(key, kind, len(data), b"", end=end))
        self.losses[key] = losses
        return records

    def _chunk(self, key, kind, offset, data, end=None, gaps=()):
        cut = self.random.randrange(len(data) + 1)
        marks = tuple(Mark(length, offset) for length in (cut, len(data) - cut) if length)
        common = {"run.id": key.run} if offset == 0 or end else None
        return Chunk(key, kind, offset, data, marks, started(key), common, end, gaps)

    def _shuffle(self, name):
        """Some records come earlier than they should."""
        records = self.broker.records[name]
        for _ in range(self.random.choice((0, 0, 1, 4))):
            if len(records) > 1:
                at = self.random.randrange(len(records) - 1)
                (left, first), (right, second) = records[at : at + 2]
                records[at : at + 2] = [(left, second), (right, first)]

    # -- what may happen

    def run(self, steps=250):
        moves = (
            [self._fetch] * 10
            + [self._ask, self._answer, self._learn] * 3
            + [self._take, self._apply, self._reply] * 3
            + [self._tick] * 2
            + [self._commit] * 3
            + [self._rebalance, self._fail]
            + ([] if self.calm else self._rough())
        )
        for _ in range(steps):
            self.now += self.random.randrange(1, 12)
            self.random.choice(moves)(self.random.choice(self.workers))
            if not self.calm and self.random.random() < 0.0005:
                self.store.delete("run1")
        self._settle()

    def _rough(self):
        """Half of the simulations are about two owners that overtake each other."""
        moves = [self._zombie, self._compact, self._flush, self._forget]
        if self.random.random() < 0.5:
            moves += [self._zombie, self._crash] + [self._flush] * 6
        return moves

    def _crash(self, worker):
        """It dies; what was on its way to the store may arrive or not."""
        worker.__init__(worker.limits)

    def _fetch(self, worker):
        for token, position in list(worker.fetched.items()):
            record = self.broker.next(token[0], position)
            if record is not None:
                worker.fetched[token] = record[0]
                worker.core.fetched(token, *record, self.now)

    def _ask(self, worker):
        worker.asked.extend(worker.core.asks())

    def _answer(self, worker):
        if worker.asked:
            ask = worker.asked.pop(self.random.randrange(len(worker.asked)))
            assert ask.started == started(ask.stream)
            extent = self.store.extent(ask.stream)
            at, head = ask.start, NOTHING
            if extent:
                stored = self.store.ranges(ask.stream)
                at = stored.missing(ask.start, 1 << 40)[0][0]
                head = self.store.head_at(ask.stream, ask.kind, at)
            worker.answered.append((ask, extent, at, head))

    def _learn(self, worker):
        if worker.answered:
            at = self.random.randrange(len(worker.answered))
            worker.core.learned(*worker.answered.pop(at), self.now)

    def _take(self, worker):
        if len(worker.writing) < 2:
            write = worker.core.take(self.random.choice((1, 30, 1000)))
            if write:
                worker.writing.append(write)

    def _apply(self, worker):
        if worker.writing:
            write = worker.writing.pop(self.random.randrange(len(worker.writing)))
            worker.written.append((write, self.store.write(write.batch)))

    def _fail(self, worker):
        """The reply is lost; applied or not, the batch is written again."""
        if worker.written:
            write, _ = worker.written.pop(0)
            worker.writing.append(write)

    def _reply(self, worker):
        if worker.written:
            at = self.random.randrange(len(worker.written))
            write, conflicts = worker.written.pop(at)
            worker.core.written(write.number, conflicts)

    def _tick(self, worker):
        worker.core.tick(self.now)

    def _flush(self, worker):
        worker.core.flush()

    def _forget(self, worker):
        worker.core.forget_idle(self.now - 30)

    def _compact(self, worker):
        key = self.random.choice(list(self.streams))
        self.store.compact(key, self.random)

    def _commit(self, worker):
        for (name, epoch), position in worker.core.commits().items():
            if epoch == self.broker.epochs[name]:
                self._check_commit(name, position)
                assert position > self.broker.committed[name], "a commit went back"
                self.broker.committed[name] = position

    def _rebalance(self, worker, tell=True):
        name = self.random.choice(self.names)
        for other in self.workers:
            for token in [token for token in other.fetched if token[0] == name]:
                if tell:
                    del other.fetched[token]
                    other.core.revoked(token)
        self._assign(name, self.random.randrange(2))

    def _zombie(self, worker):
        """The partition moves, and the old owner hears of it much later, or fetches on."""
        self._rebalance(worker, tell=False)

    def _assign(self, name, number):
        self.broker.epochs[name] += 1
        token = (name, self.broker.epochs[name])
        self.workers[number].core.assigned(token)
        self.workers[number].fetched[token] = self.broker.committed[name]

    def _settle(self):
        """Everything calms down: one owner, all replies come, time passes."""
        for _ in self.names:
            self._rebalance(self.workers[0])
        for name in self.names:
            for worker in self.workers:
                for token in [t for t in worker.fetched if t[0] == name]:
                    del worker.fetched[token]
                    worker.core.revoked(token)
            self._assign(name, 0)
        for round_number in range(10_000):
            self.now += 10**8
            for worker in self.workers:
                for _ in range(3):
                    for move in (self._fetch, self._ask, self._answer, self._learn, self._tick):
                        move(worker)
                    for move in (self._take, self._apply, self._reply, self._commit):
                        move(worker)
            if round_number > 3 and self._quiet():
                return
        raise AssertionError("it never settled")

    def _quiet(self):
        last = {name: self.broker.records[name][-1:] for name in self.names}
        done = all(not r or self.broker.committed[n] == r[0][0] for n, r in last.items())
        idle = all(not (w.asked or w.answered or w.writing or w.written) for w in self.workers)
        return done and idle and all(worker.core.settled for worker in self.workers)

    # -- what must hold

    def _check_commit(self, name, position):
        for at, chunk in self.broker.records[name]:
            if at > position or self.store.deleted(chunk.key):
                continue
            stored = self.store.ranges(chunk.key)
            end = chunk.offset + len(chunk.data)
            assert stored.covers(chunk.offset, end), f"{chunk.key} {chunk.offset} is not durable"
            facts = self.store.facts.get(chunk.key)
            assert not chunk.end or (facts and facts.end), "an end was committed, not stored"
            assert not chunk.gaps or set(chunk.gaps) <= set(facts.gaps), "a gap was not stored"

    def check(self):
        for key, (kind, data) in self.streams.items():
            if self.store.deleted(key):
                assert key not in self.store.blocks
                continue
            found = self.store.bytes_at(key, len(data))
            sent = self._sent(key)
            for at, (got, byte) in enumerate(zip(found, data, strict=True)):
                wanted = byte if sent.covers(at, at + 1) else None
                assert got == wanted, f"{key} byte {at} of {len(data)}"
            for block in self.store.blocks.get(key, {}).values():
                assert data[block.head.offset : block.head.end] == block.data
            facts = self.store.facts[key]
            assert facts.end is not None and facts.common is not None
            missing = sent.missing(0, len(data))
            gaps = Ranges((gap.offset, gap.offset + gap.length) for gap in facts.gaps)
            assert all(gaps.covers(*hole) for hole in missing), "a hole without a reason"
            if self.calm:
                self._check_heads(key, kind, data)
        for worker in self.workers:
            assert (worker.core.held_bytes, worker.core.open_bytes) == (0, 0)

    def _check_heads(self, key, kind, data):
        for block in self.store.blocks.get(key, {}).values():
            before = data[: block.head.offset]
            wanted = b"" if kind == "blob" else before[last_end(before, kind, more=False) :]
            assert wanted == block.words, f"{key} at {block.head.offset}"

    def _sent(self, key):
        chunks = [c for records in self.broker.records.values() for _, c in records if c.key == key]
        return Ranges((chunk.offset, chunk.offset + len(chunk.data)) for chunk in chunks)


def rounds(first, count, calm=False):
    for seed in range(first, first + count):
        try:
            simulation = Simulation(seed, calm)
            simulation.run()
            simulation.check()
        except Exception as error:
            raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error


def test_every_byte_is_stored_exactly_once_whatever_happens_in_between():
    rounds(0, 300)


def test_without_faults_every_block_knows_where_its_first_line_began():
    rounds(0, 100, calm=True)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_byte_is_stored_exactly_once_in_twenty_thousand_orders():
    rounds(1_000, 20_000)


def test_marks_are_cut_where_the_bytes_are_cut():
    marks = [Mark(3, 10), Mark(4, 20), Mark(1, 30)]
    ends = list(accumulate(mark.length for mark in marks))
    assert (Mark(3, 10), Mark(4, 20), Mark(1, 30)) == slice_marks(marks, ends, 0, 8)
    assert (Mark(1, 10), Mark(2, 20)) == slice_marks(marks, ends, 2, 5)
    assert (Mark(2, 20),) == slice_marks(marks, ends, 4, 6)
    assert slice_marks(marks, ends, 4, 4) == ()
