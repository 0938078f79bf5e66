"""Chunks: size, age, marks, facts, and the position that each lets go."""

import pytest

from loghaul.chunk import MAX_BYTES, decode, encode
from loghaul.spool import Cutter, Limits, SpoolReader, drop_oldest

MS = 1000


@pytest.fixture
def cutting(make_writer):
    writer = make_writer()
    return writer, Cutter(SpoolReader(writer.directory))


def test_bytes_wait_for_100_ms_or_256_kib(cutting):
    writer, cutter = cutting
    out = writer.stream("out", "text", "a/out.txt", "stdout", label="x")
    writer.append(out, b"young\n", 5)
    assert cutter.chunks(0) == []
    assert not cutter.idle
    assert cutter.chunks(99 * MS) == []
    [(chunk, position)] = cutter.chunks(100 * MS)
    assert (chunk.key.run, chunk.key.writer, chunk.key.stream) == ("run-1", writer.id, "out")
    assert (chunk.kind, chunk.offset, chunk.data) == ("text", 0, b"young\n")
    assert chunk.marks == ((6, 5),)
    assert chunk.started == writer.started
    assert chunk.common == {
        "run.id": "run-1",
        "role": "process",
        "log.file.path": "a/out.txt",
        "log.iostream": "stdout",
        "label": "x",
    }
    assert position == cutter._reader.position
    assert cutter.idle
    writer.append(out, b"y" * 300_000)
    [(chunk, _)] = cutter.chunks(200 * MS)
    assert (chunk.offset, chunk.common) == (6, None)
    assert MAX_BYTES // 2 < len(chunk.data) <= MAX_BYTES
    [(rest, _)] = cutter.chunks(200 * MS, flush=True)
    assert (rest.offset, rest.offset + len(rest.data)) == (6 + len(chunk.data), 300_006)


def test_a_text_stream_has_a_mark_per_read_and_an_events_stream_per_moment(cutting):
    writer, cutter = cutting
    out, log = writer.stream("out", "text", "out"), writer.stream("log", "events", "log")
    for n in range(4):
        writer.append(out, b"ab", n * MS)
        writer.append(log, b"{}\n", n * MS)
    writer.append(log, b"{}\n", 50 * MS)
    chunks = {chunk.key.stream: chunk for chunk, _ in cutter.chunks(0, flush=True)}
    assert chunks["out"].marks == tuple((2, n * MS) for n in range(4))
    assert chunks["log"].marks == ((12, 0), (3, 50 * MS))


def test_the_end_comes_with_the_facts_and_every_chunk_survives_the_codec(cutting):
    writer, cutter = cutting
    out = writer.stream("out", "text", "out", digest=True)
    writer.append(out, b"x\n")
    writer.stream("never", "text", "never")
    [(first, _)] = cutter.chunks(0, flush=True)
    writer.end("signal", {"signal": "SIGKILL"}, 9)
    chunks = [chunk for chunk, _ in cutter.chunks(0)]
    assert [(chunk.key.stream, chunk.offset, chunk.data) for chunk in chunks] == [
        ("out", 2, b""),
        ("never", 0, b""),
    ]
    for chunk in [first, *chunks]:
        record = encode(chunk)
        assert decode(record.value, record.headers) == chunk
        assert chunk.common is not None
    assert chunks[0].end.cause == "signal" and chunks[0].end.length == 2


def test_a_position_covers_no_byte_that_is_still_held_back(make_writer):
    writer = make_writer()
    slow, fast = writer.stream("slow", "text", "slow"), writer.stream("fast", "text", "fast")
    reader = SpoolReader(writer.directory)
    cutter = Cutter(reader)
    writer.append(slow, b"held")
    assert cutter.chunks(0) == []
    writer.append(fast, b"f" * 2 * MAX_BYTES)
    chunk, position = cutter.chunks(1)[0]
    assert chunk.key.stream == "fast"
    again = Cutter(SpoolReader(writer.directory, position))
    assert {c.key.stream: c.data for c, _ in again.chunks(0, flush=True)}["slow"] == b"held"
    chunks = cutter.chunks(200 * MS)
    assert [chunk.data for chunk, _ in chunks if chunk.key.stream == "slow"] == [b"held"]
    last = chunks[-1][1]
    assert last == reader.position


def test_restarting_from_any_position_repeats_but_never_loses(make_writer):
    writer = make_writer()
    streams = [writer.stream(f"s{n}", "text" if n % 2 else "events", f"s{n}") for n in range(3)]
    whole = {n: b"" for n in range(3)}
    given = [{} for _ in range(3)]
    cutter = Cutter(SpoolReader(writer.directory))
    for step in range(400):
        number = step % 7 % 3
        data = b"%d," % step * (step % 50 * 40)
        writer.append(streams[number], data, step)
        whole[number] += data
        for chunk, position in cutter.chunks(step * 20 * MS, flush=step == 399):
            place = given[int(chunk.key.stream[1:])]
            for at, byte in enumerate(chunk.data, chunk.offset):
                assert place.setdefault(at, byte) == byte
            if step % 11 == 0:
                cutter = Cutter(SpoolReader(writer.directory, position))
                break
    for chunk, _ in cutter.chunks(1 << 40, flush=True):
        given[int(chunk.key.stream[1:])].update(enumerate(chunk.data, chunk.offset))
    for number in range(3):
        assert bytes(given[number][at] for at in range(len(whole[number]))) == whole[number]


def test_a_gap_is_in_a_chunk_of_its_own_place(make_writer, root):
    writer = make_writer(limits=Limits(reserve_bytes=0))
    out = writer.stream("out", "text", "out")
    for _ in range(500):
        writer.append(out, b"x" * 1000)
    drop_oldest(root, 1)
    writer.append(out, b"rest")
    cutter = Cutter(SpoolReader(writer.directory))
    chunks = [chunk for chunk, _ in cutter.chunks(0, flush=True)]
    gap = chunks[0].gaps[0]
    assert (chunks[0].offset, chunks[0].data, gap.offset) == (0, b"", 0)
    assert chunks[1].offset == gap.length
    assert gap.length + sum(len(chunk.data) for chunk in chunks) == 500_004
