"""What every place of dead letters promises: directory, memory, both as one, and a real topic."""

import asyncio
import os

import pytest

from loghaul.transports.address import parse
from loghaul_ingest.dead_letters import DirectoryLetters, find
from loghaul_ingest.dead_letters.base import Letter, TooLarge, new_letter
from loghaul_ingest.dead_letters.fallback import SHORTEST_SECONDS, FallbackLetters
from loghaul_ingest.dead_letters.memory import MemoryLetters
from loghaul_ingest.dead_letters.topic import TopicLetters
from loghaul_ingest.errors import NotFound, StoreError, UsageError
from loghaul_ingest.topics import LETTERS, Plan, letters_of, set_up

ABOUT = {"partition": "logs/3", "position": 17, "record": {"key": None, "headers": []}}


@pytest.fixture(params=["memory", "directory", "fallback", "topic"])
def place(request, tmp_path):
    """A function that opens an empty place, again with what was kept."""
    if request.param == "memory":
        memory = MemoryLetters()
        return lambda: memory
    if request.param == "directory":
        return lambda: DirectoryLetters(tmp_path / "letters")
    if request.param == "fallback":
        memory = MemoryLetters()
        return lambda: FallbackLetters(memory, DirectoryLetters(tmp_path / "letters"))
    address = parse(request.getfixturevalue("kafka").dsn(partitions=1))
    asyncio.run(set_up(letters_of(address), Plan(), kind=LETTERS))
    return lambda: TopicLetters(address)


def run(place, *steps):
    """Do these one after the other in a newly opened place; return what each gave."""

    async def work():
        opened = place()
        try:
            return [await step(opened) for step in steps]
        finally:
            await opened.close()

    return asyncio.run(work())


def put(letter, data=b"bytes"):
    return lambda opened: opened.put(letter, data)


def remove(letter):
    return lambda opened: opened.remove(letter, "dropped")


def listed(place):
    return run(place, lambda opened: opened.letters())[0]


def data(place, letter):
    return run(place, lambda opened: opened.data(letter))[0]


def test_where_nothing_was_kept_there_are_no_letters(place):
    assert list(listed(place)) == []


def test_a_letter_is_given_as_it_was_kept(place):
    kept = new_letter("no log at all \udcff\n", ABOUT, b"\x00\xff\r\n")
    run(place, put(kept, b"\x00\xff\r\n"))

    (found,) = listed(place)

    assert (found.name, found.about) == (kept.name, kept.about)
    assert found.place == "logs/3@17" and found.where
    assert data(place, found) == b"\x00\xff\r\n"


def test_an_empty_letter_is_one_too(place):
    run(place, put(new_letter("empty", ABOUT, b""), b""))

    (found,) = listed(place)

    assert data(place, found) == b""


def test_letters_are_given_oldest_first_whatever_came_first(place):
    letters = [Letter(f"{n:020d}-{n:016x}", ABOUT) for n in (3, 1, 2)]
    run(place, *(put(one, one.name.encode()) for one in letters))

    found = listed(place)

    assert [one.time_us for one in found] == [0, 0, 0]
    assert [one.name for one in found] == sorted(one.name for one in letters)
    steps = [lambda opened, one=one: opened.data(one) for one in found]
    assert run(place, *steps) == [one.name.encode() for one in found]


def test_a_letter_kept_twice_is_one(place):
    kept = new_letter("again", ABOUT, b"bytes")

    run(place, put(kept), put(kept))

    assert [one.name for one in listed(place)] == [kept.name]


def test_a_letter_that_was_removed_is_gone_and_its_neighbours_are_not(place):
    letters = [new_letter(reason, ABOUT, b"bytes") for reason in "abc"]
    run(place, *map(put, letters))
    middle = find(listed(place), letters[1].name)

    run(place, remove(middle), remove(middle))

    assert [one.reason for one in listed(place)] == ["a", "c"]


def test_the_bytes_of_a_letter_that_is_gone_are_not_found(place):
    with pytest.raises(NotFound, match="gone"):
        data(place, new_letter("never kept", ABOUT, b""))


def test_what_a_topic_of_lines_takes_is_kept(place):
    large = os.urandom(2 * 2**20)
    run(place, put(new_letter("large", ABOUT, large), large))

    assert data(place, listed(place)[0]) == large


# -- in one place or in another


class Bench:
    def __init__(self, tmp_path):
        self.now, self.notes, self.first = 0.0, [], MemoryLetters()
        self.second = DirectoryLetters(tmp_path)
        self.both = FallbackLetters(
            self.first,
            self.second,
            lambda event, **fields: self.notes.append(fields["error"]),
            lambda: self.now,
        )

    def put(self, reason):
        asyncio.run(self.both.put(new_letter(reason, ABOUT, b"bytes"), b"bytes"))

    def where(self):
        return [
            [one.reason for one in asyncio.run(place.letters())]
            for place in (self.first, self.second)
        ]


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def test_what_the_first_place_does_not_take_is_kept_in_the_second_and_reported(bench):
    bench.first.refusal = StoreError("away")

    bench.put("a")

    assert bench.second.directory.is_dir() and bench.notes == ["away"]
    assert [len(list(bench.second.directory.glob("*.bin")))] == [1]


def test_a_place_that_failed_is_left_alone_for_a_while_and_then_tried_again(bench):
    bench.first.refusal = StoreError("away")
    bench.put("a")
    bench.first.refusal = None

    bench.put("b")
    bench.now = SHORTEST_SECONDS
    bench.put("c")

    assert bench.where() == [["c"], ["a", "b"]]


def test_what_is_too_large_for_the_first_place_keeps_no_other_from_it(bench):
    bench.first.refusal = TooLarge("too large")
    bench.put("large")
    bench.first.refusal = None

    bench.put("small")

    assert bench.where() == [["small"], ["large"]]


def test_where_neither_place_takes_it_that_is_said(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    bench = Bench(tmp_path / "file" / "below")
    bench.first.refusal = StoreError("away")

    with pytest.raises(StoreError, match="cannot be kept"):
        bench.put("a")


def test_both_places_are_listed_and_one_that_cannot_be_read_is_named(bench):
    bench.put("a")
    bench.first.refusal = StoreError("away")
    bench.put("b")

    alone = [one.reason for one in asyncio.run(bench.both.letters())]
    unread = bench.both.unread
    bench.first.refusal = None

    assert (alone, unread) == (["b"], "away")
    assert [one.reason for one in asyncio.run(bench.both.letters())] == ["a", "b"]
    assert bench.both.unread is None


def test_letters_are_found_by_number_name_and_the_beginning_of_an_id():
    letters = [Letter(f"{n:020d}-{'abcd' * 3}{n:04x}", ABOUT) for n in range(3)]

    assert find(letters, "2") is letters[1]
    assert find(letters, letters[2].name) is letters[2]
    assert find(letters, "abcdabcdabcd0001") is letters[1]
    with pytest.raises(UsageError, match="3 dead letters begin"):
        find(letters, "abcd")
    with pytest.raises(NotFound, match="there are 3"):
        find(letters, "9")
