"""Log lines in parts: readers give the same bytes as if each had been written whole."""

import math
import random

import pytest

from loghaul.spool import Cutter, Limits, SpoolReader, SpoolWriter, abandoned
from loghaul.spool.format import LOG
from loghaul.spool.site import MAX_SITES, Site

CREATED = 1_700_000_000.25


def site(name=b"f", padding=0):
    tail = b'","log.logger":"%s%s"}\n' % (name, b"." * padding)
    return Site(b'{"@timestamp":"', b'Z","log.level":"info","message":"', tail)


@pytest.fixture
def logged(make_writer):
    """A writer with one stream that knows what it was given, and its bytes as a model."""

    class Logged:
        writer = make_writer()
        stream = writer.stream("log", "events", "log")
        whole = b""

        def log(self, one, message, created=CREATED):
            self.whole += one.line(created, message)
            return self.writer.log(self.stream, one, created, message)

        def append(self, data):
            self.whole += data
            return self.writer.append(self.stream, data)

    return Logged()


def test_lines_come_back_as_if_they_had_been_written_whole(logged, read_all):
    sites = [site(b"%d" % n, n) for n in range(7)]
    chosen = random.Random(1)
    for n in range(30_000):
        if n % 100:
            created = CREATED + n * 0.003 * chosen.random()
            assert logged.log(sites[n % 7], b"message %d" % n, created)
        else:
            assert logged.append(b'{"whole":%d}\n' % n)
    assert len(list(logged.writer.directory.glob("*.segment"))) >= 3
    found = read_all(logged.writer.directory, step=50_000)
    assert logged.whole == found.data("log")
    assert found.gaps == {}


def test_lines_cost_the_spool_their_message_and_a_header(logged):
    one = site(padding=500)
    assert logged.log(one, b"first")
    before = logged.writer._position
    assert logged.log(one, b"x" * 40)
    assert logged.writer._position - before == 32 + 40


@pytest.mark.parametrize(
    ("created", "shown"),
    [
        (0.0, b"1970-01-01T00:00:00.000000"),
        (5.25, b"1970-01-01T00:00:05.250000"),
        (1_700_000_000.999999, b"2023-11-14T22:13:20.999999"),
        (253_402_300_799.0, b"9999-12-31T23:59:59.000000"),
        (253_402_300_800.0, b"1970-01-01T00:00:00.000000"),
        (-1.0, b"1970-01-01T00:00:00.000000"),
        (math.nan, b"1970-01-01T00:00:00.000000"),
        (math.inf, b"1970-01-01T00:00:00.000000"),
    ],
)
def test_a_moment_always_takes_as_many_bytes(logged, read_all, created, shown):
    for _ in range(2):
        assert logged.log(site(), b"x", created)
    assert logged.append(b"behind\n")
    data = read_all(logged.writer.directory).data("log")
    assert logged.whole == data
    assert data.count(shown) == 2


def test_more_sites_than_a_segment_declares_are_written_whole(logged, read_all):
    sites = [site(b"%d" % n) for n in range(MAX_SITES + 50)]
    for turn in range(2):
        for one in sites:
            assert logged.log(one, b"%d" % turn)
    assert len(logged.writer._sites) <= MAX_SITES
    assert logged.whole == read_all(logged.writer.directory).data("log")


def test_a_line_as_long_as_a_record_can_be_or_longer_is_kept(logged, read_all):
    for size in (60_000, 128 * 1024, 128 * 1024 + 1, 700_000, 5_000_000):
        assert logged.log(site(), b"m" * size)
        assert logged.append(b"behind\n")
    assert logged.whole == read_all(logged.writer.directory).data("log")


def test_an_append_longer_than_a_window_is_read_while_the_segment_lives(logged, read_all):
    for _ in range(20):
        logged.append(b"y" * 120_000)
    logged.append(b"z" * 700_000)
    logged.append(b"behind")
    assert logged.whole == read_all(logged.writer.directory).data("log")


def test_a_reader_that_resumes_anywhere_knows_the_sites(logged, found):
    sites = [site(b"%d" % n) for n in range(3)]
    for n in range(400):
        logged.log(sites[n % 3], b"message %d" % n, CREATED + n)
    reader, result = SpoolReader(logged.writer.directory), found()
    for _ in range(1000):
        result.take(reader.read(1))
        reader = SpoolReader(logged.writer.directory, reader.position)
    assert logged.whole == result.data("log")


def test_a_writer_that_goes_on_after_a_death_declares_its_sites_again(logged, read_all):
    one = site()
    logged.log(one, b"before")
    logged.writer._unlock()
    logged.writer = SpoolWriter.reopen(logged.writer.directory, limits=Limits(reserve_bytes=0))
    logged.log(one, b"after")
    logged.writer.close()
    assert logged.whole == read_all(logged.writer.directory).data("log")


def test_refused_lines_are_a_gap_as_long_as_they_would_have_been(logged, read_all):
    one = site()
    logged.log(one, b"kept")
    kept = len(logged.whole)
    logged.writer._floor, logged.writer._asked = None, math.inf
    logged.writer._set_limit()
    assert not logged.log(one, b"refused")
    logged.writer._floor = -1
    logged.writer._set_limit()
    logged.log(one, b"kept again")
    found = read_all(logged.writer.directory)
    assert found.gaps["log"] == [(kept, len(one.line(CREATED, b"refused")), "spool full")]
    assert found.is_true_of("log", logged.whole) == len(logged.whole)


def test_a_chunk_of_many_short_lines_stays_within_its_bound(logged):
    one = site(padding=900)
    for _ in range(5000):
        logged.log(one, b"")
    cutter, data = Cutter(SpoolReader(logged.writer.directory)), b""
    for _ in range(20):
        for chunk, _position in cutter.chunks(0, flush=True):
            assert len(chunk.data) <= 256 * 1024
            data += chunk.data
    assert logged.whole == data


@pytest.fixture
def damaged(logged, read_all):
    """Flip a bit of a dead writer's segment, and read it: with END records or without."""
    sites = [site(b"%d" % n) for n in range(2)]
    for n in range(12):
        logged.log(sites[n % 2], b"message %d" % n)
    used = logged.writer._position
    logged.writer.close()
    segment = logged.writer.directory / "00000001.segment"
    data = segment.read_bytes()[:used]

    def read(place, bit):
        changed = bytearray(data)
        changed[place] ^= 1 << bit
        segment.write_bytes(changed + bytes(1000))
        return read_all(logged.writer.directory, concluded=True)

    return logged, data, read


def test_a_flipped_bit_costs_a_line_and_one_in_a_declaration_those_that_need_it(damaged):
    logged, data, read = damaged
    chosen = random.Random(7)
    line = len(logged.whole) // 12 + 1
    declared = [data.index(b'{"@timestamp'), data.rindex(b'{"@timestamp')]
    for place in range(64, len(data)):
        found = read(place, chosen.randrange(8))
        found.is_true_of("log", logged.whole)
        gaps = found.gaps.get("log", [])
        lost = sum(gap.length for gap in gaps)
        assert all(gap.reason == "record damaged" for gap in gaps)
        near = any(begin - 32 <= place < begin + 120 for begin in declared)
        assert lost <= (6 * line if near else line)


def test_lines_without_their_declaration_are_gaps_up_to_the_end(damaged, read_all, root):
    logged, data, read = damaged
    read(data.index(b'{"@timestamp') + 3, 0)
    assert abandoned(root) == [logged.writer.directory]
    found = read_all(logged.writer.directory)
    assert found.is_true_of("log", logged.whole) == found.ends["log"].length
    assert {gap.reason for gap in found.gaps["log"]} == {"record damaged"}
    assert b"".join(piece for _, piece in found.pieces["log"]).count(b"\n") == 6


def test_a_log_record_whose_length_was_never_written_is_no_killed_read(logged, read_all):
    one = site()
    logged.log(one, b"a")
    start = logged.writer._position
    # Its site has number 1, and its message is one byte: as an intent that would be all of it.
    logged.log(one, b"b")
    assert logged.writer._map[start + 16 + 2] == LOG
    logged.writer._words[start >> 2] = 0
    logged.writer.close()
    assert logged.whole == read_all(logged.writer.directory, concluded=True).data("log")
