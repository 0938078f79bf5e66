"""Helpers of the spool's tests: a writer that is closed, and what a reader makes of a directory."""

import pytest

from loghaul.spool import START, Limits, SpoolReader, SpoolWriter

FACTS = {"run.id": "run-1", "role": "process"}


class Found:
    """Everything that was read: bytes by place, gaps and ends by stream."""

    def __init__(self):
        self.pieces, self.gaps, self.ends, self.entries = {}, {}, {}, []

    def take(self, entries):
        for entry in entries:
            self.entries.append(entry)
            if entry.gap is not None:
                self.gaps.setdefault(entry.stream, []).append(entry.gap)
            elif entry.end is not None:
                self.ends[entry.stream] = entry.end
            else:
                self.pieces.setdefault(entry.stream, []).append((entry.offset, entry.data))
        return self

    def data(self, stream):
        """The bytes of a stream that has no holes."""
        whole = bytearray()
        for offset, data in self.pieces.get(stream, []):
            assert len(whole) == offset
            whole += data
        return bytes(whole)

    def is_true_of(self, stream, whole):
        """What came is what was written there, each byte once, and gaps are the rest."""
        at = 0
        places = [(o, len(d), d) for o, d in self.pieces.get(stream, [])]
        places += [(g.offset, g.length, None) for g in self.gaps.get(stream, [])]
        for offset, length, data in sorted(places, key=lambda place: place[:2]):
            assert offset == at, "a hole without a gap, or bytes given twice"
            if data is not None:
                assert data == whole[offset : offset + length]
            at += length
        assert at <= len(whole)
        return at


@pytest.fixture
def found():
    return Found


@pytest.fixture
def read_all():
    def read(directory, position=START, concluded=False, step=1024 * 1024):
        reader = SpoolReader(directory, position)
        if concluded:
            reader.conclude()
        result, idle = Found(), 0
        # A damaged place in a live segment is believed at the second look.
        while not reader.ended and idle < 2:
            entries = reader.read(step)
            result.take(entries)
            idle = 0 if entries else idle + 1
        reader.close()
        result.reader = reader
        return result

    return read


@pytest.fixture
def root(tmp_path):
    return tmp_path / "spool"


@pytest.fixture
def make_writer(root):
    made = []

    def make(**keywords):
        keywords.setdefault("limits", Limits(reserve_bytes=0))
        writer = SpoolWriter(keywords.pop("root", root), keywords.pop("facts", FACTS), **keywords)
        made.append(writer)
        return writer

    yield make
    for writer in made:
        writer.close()
