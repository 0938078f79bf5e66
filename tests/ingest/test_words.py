"""Words: what the index holds and the predicate looks for."""

from __future__ import annotations

import re
import subprocess

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loghaul.chunk import EVENTS, TEXT
from loghaul_ingest.words import LONGEST, blank, index_words, plain, words

hostile = st.lists(
    st.one_of(
        st.binary(max_size=8),
        st.sampled_from(
            [
                *(b"\x1b[31m", b"\x1b]0;title\x07", b"\x1b]8;;http://x\x1b\\", b"\x1b", b"\x1b["),
                *(
                    b"\\n",
                    b"\\\\",
                    b'\\"',
                    b"\\u00e9",
                    b"\\u001b[1;31m",
                    b"\\u12",
                    b"\\",
                    b"\xff\0",
                ),
                *(b"loss", b"Error", b"x_1", b" ", b"\n", b"\r", b"=", b"a" * 130, "é".encode()),
            ]
        ),
    ),
    max_size=24,
).map(b"".join)
kinds = st.sampled_from([TEXT, EVENTS])


@given(hostile, kinds)
def test_words_have_the_length_of_the_bytes_and_their_newlines(data: bytes, kind: str) -> None:
    found = words(data, kind)
    assert len(data) == len(found)
    assert re.fullmatch(rb"[a-z0-9_ \n]*", found)
    assert [i for i, code in enumerate(data) if code == 10] == [
        i for i, code in enumerate(found) if code == 10
    ]


@given(hostile, kinds)
def test_the_words_of_a_line_do_not_depend_on_its_neighbours(data: bytes, kind: str) -> None:
    together = words(data, kind).split(b"\n")
    assert [words(line, kind) for line in data.split(b"\n")] == together


@given(hostile)
def test_a_carriage_return_separates_words_of_text_like_a_newline(data: bytes) -> None:
    pieces = data.splitlines(keepends=True)
    assert words(data, TEXT) == b"".join(words(piece, TEXT) for piece in pieces)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.lists(hostile.map(lambda data: data.replace(b"\n", b"")), max_size=12), kinds)
@pytest.mark.parametrize("word", [b"loss", b"error", b"x_1"])
def test_a_word_is_found_where_grep_finds_it(word: bytes, lines: list[bytes], kind: str) -> None:
    data = b"".join(line + b"\n" for line in lines)
    grep = subprocess.run(
        ["grep", "-a", "-n", "-w", "-i", "-e", word.decode()],
        input=blank(data, kind).replace(b"\0", b" "),
        capture_output=True,
        env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
        check=False,
    )
    expected = [int(row.partition(b":")[0]) for row in grep.stdout.split(b"\n") if row]
    rows = words(data, kind).split(b"\n")
    assert expected == [number for number, row in enumerate(rows, 1) if word in row.split()]


def test_escapes_of_json_are_no_text_and_a_pair_of_backslashes_escapes_nothing_else() -> None:
    data = rb'{"m":"a\nloss\tb\\nloss \u00e9loss \u001b[31mred\\u001b[31m"}'
    found = words(data, EVENTS).split()
    assert found == [b"m", b"a", b"loss", b"b", b"nloss", b"loss", b"red", b"u001b", b"31m"]


def test_colours_do_not_hide_a_word_of_text() -> None:
    assert words(b"\x1b[1mloss\x1b[0m is \x1b[32mlow", TEXT).split() == [b"loss", b"is", b"low"]


@given(st.text(max_size=40))
def test_plain_text_has_no_escape_sequence_and_loses_nothing_else(text: str) -> None:
    clean = text.replace("\x1b", "")
    assert clean == plain(clean)
    assert plain("\x1b[31m" + clean + "\x1b[0m") == clean


@given(st.lists(st.integers(min_value=1, max_value=300), max_size=12))
def test_an_index_holds_the_beginning_of_long_words(lengths: list[int]) -> None:
    found = b" ".join(b"w" * length for length in lengths) + b"\n"
    expected = [b"w" * min(length, LONGEST) for length in lengths]
    assert expected == index_words(found).split()


def test_words_without_a_long_one_are_handed_on_as_they_are() -> None:
    found = (b"a" * LONGEST + b" ") * 50
    assert index_words(found) is found
