from zlib import crc32

from loghaul.chunk import TEXT, Chunk, StreamKey, encode, record_key
from loghaul_ingest.feeds.connection import Bounds
from loghaul_ingest.feeds.course import (
    LISTEN_BYTES,
    LISTEN_BYTES_PER_SECOND,
    Course,
    candidates,
)

KEY = StreamKey("run-1", "a" * 32, "stdout")
#: First offset 100, end 1000; 900 came within the last minutes.
AT = Bounds(100, 1000, 900)


def course(count=4):
    made = Course()
    made.grow(count)
    return made


def test_the_key_is_that_of_the_records():
    assert record_key(KEY) == encode(Chunk(KEY, TEXT, 0, b"", (), 1)).key


def test_a_stream_may_be_where_it_was_with_fewer_partitions():
    number = crc32(record_key(KEY))
    found = candidates(KEY, 6)
    assert found[0] == number % 6
    assert set(found) == {number % count for count in range(1, 7)}
    assert len(found) == len(set(found))


def test_reading_begins_where_the_workers_have_committed():
    assert course().start(0, {0: 500}, None, AT) == 500
    assert course().start(0, {0: 500}, 700, AT) == 500


def test_what_no_worker_has_stored_is_read_from_its_first_record():
    assert course().start(0, {0: None}, None, AT) == 100


def test_without_the_groups_position_that_of_a_block_counts_but_not_of_long_ago():
    assert course().start(0, None, 950, AT) == 950
    assert course().start(0, {0: None}, 950, AT) == 950
    assert course().start(0, None, 150, AT) == 900
    assert course().start(0, None, None, AT) == 900


def test_a_position_of_another_topic_says_nothing():
    assert course().start(0, None, 1 << 40, AT) == 900


def test_what_expired_is_passed_over():
    assert course().start(0, {0: 7}, None, AT) == 100


def test_a_new_connection_goes_on_behind_what_was_read_or_what_is_stored_by_then():
    before = course()
    before.next[0] = 600
    assert Course(before).start(0, {0: 500}, None, AT) == 600
    assert Course(before).start(0, {0: 700}, None, AT) == 700
    assert Course(before).start(0, None, None, AT) == 600


def test_a_topic_that_was_made_anew_is_read_from_its_beginning():
    before = course()
    before.next[0] = 5000
    assert Course(before).start(0, None, None, AT) == 100


def test_partitions_of_others_are_left_off_when_listening_costs_too_much():
    made = course()
    made.expect([KEY])
    made.seen(StreamKey("run-1", "b" * 32, "stderr"), 1)
    needed = {candidates(KEY, 4)[0], 1}
    others = set(range(4)) - needed
    assert made.overheard(dict.fromkeys(range(4), LISTEN_BYTES // 8), 0.0) == set()
    assert made.overheard(dict.fromkeys(others, LISTEN_BYTES), 0.0) == others
    assert made.resting == others
    # What is needed may cost what it will.
    assert made.overheard(dict.fromkeys(needed, 10 * LISTEN_BYTES), 0.0) == set()


def test_listening_to_little_goes_on_for_ever():
    made = course()
    for second in range(1000):
        assert made.overheard({0: LISTEN_BYTES_PER_SECOND}, float(second)) == set()
