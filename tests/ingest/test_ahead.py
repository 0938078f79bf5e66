"""Reading ahead: the same items, errors at their place, no thread left behind."""

import threading

import pytest

from loghaul_ingest.ahead import AHEAD_PARTS, PART_BYTES, read_ahead
from loghaul_ingest.pieces import Hole, Piece


def items(count, size):
    for number in range(count):
        yield Piece(number * size, bytes([number % 256]) * size, ())
        if number % 5 == 0:
            yield Hole(number * size, 0, "why", True)


@pytest.mark.parametrize("size", [1, 1000, PART_BYTES, 2 * PART_BYTES + 1])
def test_the_items_are_the_same(size):
    assert list(read_ahead(items(12, size))) == list(items(12, size))
    assert list(read_ahead([])) == []


def test_an_error_is_raised_behind_what_came_before_it():
    def broken():
        yield from items(3, 10)
        raise OSError("disk")

    got = []
    with pytest.raises(OSError, match="disk"):
        for item in read_ahead(broken()):
            got.append(item)
    assert got == list(items(3, 10))


def test_no_more_is_read_than_waits_and_the_thread_ends_with_its_user():
    taken = []

    def endless():
        while True:
            taken.append(1)
            yield Piece(0, bytes(PART_BYTES), ())

    threads = threading.active_count()
    reading = read_ahead(endless())
    next(reading)
    reading.close()

    assert threading.active_count() == threads
    assert len(taken) <= AHEAD_PARTS + 3
