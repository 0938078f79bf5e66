"""A model of the spool: whatever happens in whatever order, bytes are there once or named."""

import errno
import os
import shutil
import tempfile
from pathlib import Path
from unittest import mock

from hypothesis import settings, strategies
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from loghaul.spool import (
    Limits,
    SpoolReader,
    SpoolWriter,
    abandoned,
    drop_oldest,
    saved_position,
    writers,
)
from loghaul.spool import row as row_module

SIZES = strategies.one_of(
    strategies.integers(0, 300), strategies.sampled_from([4000, 16_000, 40_000, 200_000])
)
LIMITS = Limits(max_bytes=4 * 1024 * 1024, reserve_bytes=0)


def full(_fd, _offset, _length):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Model(RuleBasedStateMachine):
    """Two streams; `given` is what the reader gave or called a gap, compared as it comes."""

    def __init__(self):
        super().__init__()
        self.patience = mock.patch.object(row_module, "RETRY_SECONDS", 0.0)
        self.patience.start()
        self.root = Path(tempfile.mkdtemp(prefix="spool-model-"))
        self.writer = SpoolWriter(self.root, {"run.id": "r"}, limits=LIMITS)
        self.directory = self.writer.directory
        self.streams = [
            self.writer.stream("a", "text", "a"),
            self.writer.stream("b", "events", "b"),
        ]
        self.written = {"a": bytearray(), "b": bytearray()}
        self.reached = {"a": 0, "b": 0}
        self.ends = {}
        self.reader = SpoolReader(self.directory)
        self.saved_reached = {"a": 0, "b": 0}
        self.count = self.refused = 0
        self.dropped = False
        self.gaps = {}
        self.disk = None
        self.ended = False

    def teardown(self):
        self.heal_disk()
        if not self.ended:
            self.finish()
        self.read()
        for name, data in self.written.items():
            assert self.reached[name] == len(data) == self.ends[name].length
        missing = sum(self.gaps.values())
        assert missing <= self.refused
        assert self.dropped or missing or not self.writer.refused
        self.reader.release(self.reader.position)
        assert writers(self.root) == []
        self.writer.close()
        self.patience.stop()
        shutil.rmtree(self.root)

    def finish(self):
        assert self.writer.end("exit", {})
        self.writer.close()
        self.ended = True

    @precondition(lambda self: not self.ended)
    @rule(which=strategies.sampled_from("ab"), size=SIZES, level=strategies.sampled_from([10, 40]))
    def append(self, which, size, level):
        self.count += 1
        data = (b"%d," % self.count * (size // 3 + 1))[:size]
        self.refused += (
            0 if self.writer.append("ab".index(which), data, self.count, level) else size
        )
        self.written[which] += data

    @rule()
    def read(self):
        for _ in range(200):
            entries = self.reader.read(100_000)
            for entry in entries:
                self.take(entry)
            if not entries:
                return

    def take(self, entry):
        name, at = entry.stream, self.reached[entry.stream]
        if entry.end is not None:
            self.ends[name] = entry.end
            assert entry.end.length == at
        elif entry.gap is not None:
            assert entry.gap.offset == at
            self.reached[name] += entry.gap.length
            if not entry.gap.reason.startswith("dropped"):
                self.gaps[name, at] = entry.gap.length
        else:
            assert entry.offset == at
            assert self.written[name][at : at + len(entry.data)] == entry.data
            self.reached[name] += len(entry.data)

    @precondition(lambda self: not self.reader.ended)
    @rule()
    def release(self):
        self.reader.release(self.reader.position)
        self.saved_reached = dict(self.reached)

    @rule()
    def restart_reader(self):
        if saved_position(self.directory) is None:
            self.saved_reached = {"a": 0, "b": 0}
        self.reader.close()
        self.reader = SpoolReader(self.directory)
        self.reached = dict(self.saved_reached)

    @precondition(lambda self: not self.ended)
    @rule()
    def die_and_reopen(self):
        self.writer._unlock()
        with mock.patch.object(os, "posix_fallocate", full):
            assert abandoned(self.root) == []
        self.heal_disk()
        self.writer = SpoolWriter.reopen(self.directory, limits=LIMITS)

    @precondition(lambda self: not self.ended)
    @rule(cut=strategies.integers(1, 28))
    def die_in_the_middle_of_a_record(self, cut):
        """The header is there up to some byte, the length word is not."""
        start = self.writer._position
        torn = (b"\x01" * 28)[:cut]
        if start + 32 < self.writer._segment.size:
            self.writer._map[start + 4 : start + 4 + cut] = torn
        self.die_and_reopen()

    @precondition(lambda self: not self.ended)
    @rule()
    def die_for_good(self):
        self.heal_disk()
        self.writer._unlock()
        assert abandoned(self.root) == [self.directory]
        self.writer._die()
        self.ended = True

    @precondition(lambda self: self.disk is None)
    @rule()
    def fill_disk(self):
        self.disk = mock.patch.object(os, "posix_fallocate", full)
        self.disk.start()

    @rule()
    def heal_disk(self):
        if self.disk is not None:
            self.disk.stop()
            self.disk = None

    @rule(wanted=strategies.sampled_from([1, 1 << 30]))
    def drop(self, wanted):
        self.read()
        self.dropped = drop_oldest(self.root, wanted) > 0 or self.dropped

    @precondition(lambda self: not self.ended)
    @rule()
    def end(self):
        self.heal_disk()
        self.finish()

    @invariant()
    def no_more_than_was_written_was_given(self):
        for name, data in self.written.items():
            assert self.reached[name] <= len(data)


Model.TestCase.settings = settings(
    max_examples=30, stateful_step_count=30, deadline=None, derandomize=True
)
TestModel = Model.TestCase
