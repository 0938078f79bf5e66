"""Torn tails, flipped bits, zeros and garbage cost the damaged record, and are named."""

import os
import random

import pytest

from loghaul.errors import SpoolFormatError
from loghaul.spool import START, SpoolReader
from loghaul.spool.format import SegmentHeader, encode_segment_header


@pytest.fixture
def filled(make_writer):
    """A dead writer's directory, and what it had appended to each of two streams."""
    writer = make_writer()
    names = {"log": "events", "out": "text"}
    numbers = {name: writer.stream(name, kind, name) for name, kind in names.items()}
    whole = {"log": b"", "out": b""}
    for n in range(12):
        for name, number in numbers.items():
            line = b"%s line %d\n" % (name.encode(), n) + b"." * (n % 7)
            writer.append(number, line, 1_000_000 * n)
            whole[name] += line
    used = writer._position
    writer.close()
    segment = writer.directory / "00000001.segment"
    return writer.directory, segment, segment.read_bytes()[:used], whole


def test_a_tail_torn_at_any_byte_costs_only_what_is_gone(filled, read_all):
    directory, segment, data, whole = filled
    previous = dict.fromkeys(whole, 0)
    for cut in range(len(data) + 1):
        segment.write_bytes(data[:cut])
        found = read_all(directory, concluded=True)
        for name in whole:
            found.is_true_of(name, whole[name])
            length = sum(len(piece) for _, piece in found.pieces.get(name, []))
            assert length >= previous[name]
            previous[name] = length
    assert previous == {name: len(data) for name, data in whole.items()}


def test_a_tail_of_zeros_from_any_byte_costs_only_what_is_gone(filled, read_all):
    directory, segment, data, whole = filled
    for cut in range(64, len(data)):
        segment.write_bytes(data[:cut] + bytes(len(data) - cut + 500))
        found = read_all(directory, concluded=True)
        for name in whole:
            found.is_true_of(name, whole[name])


def test_a_flipped_bit_costs_one_record_which_becomes_a_gap(filled, read_all):
    directory, segment, data, whole = filled
    chosen = random.Random(5)
    for place in range(0, len(data)):
        damaged = bytearray(data)
        damaged[place] ^= 1 << chosen.randrange(8)
        segment.write_bytes(damaged + bytes(1000))
        found = read_all(directory, concluded=True)
        for name in whole:
            reached = found.is_true_of(name, whole[name])
            lost = sum(gap.length for gap in found.gaps.get(name, []))
            assert lost <= 24, "more than one record"
            assert reached >= len(whole[name]) - 24
            assert all(gap.reason == "record damaged" for gap in found.gaps.get(name, []))


def test_a_flipped_bit_in_a_live_segment_is_passed_at_the_second_look(make_writer, found):
    writer = make_writer()
    out = writer.stream("out", "text", "out")
    for _ in range(10):
        writer.append(out, b"0123456789")
    place = writer._position - 5 * 48 + 40
    writer._map[place] ^= 1
    reader, result = SpoolReader(writer.directory), found()
    result.take(reader.read())
    assert result.is_true_of("out", b"0123456789" * 10) == 50
    result.take(reader.read())
    assert result.is_true_of("out", b"0123456789" * 10) == 100
    assert result.gaps["out"] == [(50, 10, "record damaged")]


def test_a_record_that_is_not_whole_at_the_live_end_is_not_yet_there(make_writer, found):
    writer = make_writer()
    out = writer.stream("out", "text", "out")
    writer.append(out, b"first")
    start = writer._position
    writer.append(out, b"second")
    good = writer._map[start + 32]
    writer._map[start + 32] = 0
    reader, result = SpoolReader(writer.directory), found()
    for _ in range(4):
        result.take(reader.read())
    assert result.data("out") == b"first"
    writer._map[start + 32] = good
    result.take(reader.read())
    assert result.data("out") == b"firstsecond"
    assert result.gaps == {}


def test_garbage_instead_of_a_segment_is_no_exception(filled, read_all):
    directory, segment, data, whole = filled
    chosen = random.Random(6)
    for _ in range(30):
        damaged = bytearray(data)
        begin = chosen.randrange(len(data))
        length = chosen.randrange(1, 600)
        damaged[begin : begin + length] = os.urandom(length)
        segment.write_bytes(damaged[: len(data)])
        found = read_all(directory, concluded=True)
        for name in whole:
            found.is_true_of(name, whole[name])
    for rubbish in (b"", b"x", os.urandom(5000), bytes(5000)):
        segment.write_bytes(rubbish)
        assert read_all(directory, concluded=True).entries == []


def test_a_stream_that_contains_a_segment_does_not_confuse_the_search(make_writer, read_all):
    inner = make_writer()
    number = inner.stream("out", "text", "out")
    inner.append(number, b"a" * 100)
    image = inner._map[: inner._position]
    writer = make_writer()
    out = writer.stream("out", "text", "out")
    writer.append(out, b"head")
    start = writer._position
    writer.append(out, image)
    writer.append(out, b"tail")
    writer._map[start + 40] ^= 1
    writer.end("exit", {})
    found = read_all(writer.directory)
    whole = b"head" + image + b"tail"
    length = found.ends["out"].length
    assert len(whole) == length


def test_a_newer_format_is_refused_with_a_clear_sentence(filled, monkeypatch):
    directory, segment, data, _ = filled
    header = SegmentHeader(1, len(data), directory.name, 0)
    monkeypatch.setattr("loghaul.spool.format.VERSION", 9)
    newer = encode_segment_header(header)
    monkeypatch.undo()
    segment.write_bytes(newer + data[64:])
    with pytest.raises(SpoolFormatError, match=r"newer loghaul .format 9.*upgrade"):
        SpoolReader(directory, START).read()
    facts = directory / "writer.json"
    facts.write_text(facts.read_text().replace('"format":1', '"format":2'))
    with pytest.raises(SpoolFormatError, match=r"writer.json.*format 2.*upgrade"):
        SpoolReader(directory)
    assert newer + data[64:] == segment.read_bytes()
