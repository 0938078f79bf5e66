"""Where events end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loghaul.chunk import BLOB, EVENTS, TEXT
from loghaul_ingest import lines

data = st.lists(
    st.sampled_from([b"a", b"bc", b"\n", b"\r", b"\r\n", b"\0", b"\xff", b"\x0b", b"\x85", b" "]),
    max_size=30,
).map(b"".join)
kinds = st.sampled_from([TEXT, EVENTS])


def oracle(data: bytes, kind: str, more: bool) -> list[int]:
    """Byte by byte, as the definition says."""
    found = []
    for at, code in enumerate(data):
        following = data[at + 1 : at + 2]
        if code == 10 or (
            kind == TEXT and code == 13 and following != b"\n" and (following or not more)
        ):
            found.append(at + 1)
    return found


@given(data, kinds, st.booleans())
def test_events_end_where_the_definition_says(data: bytes, kind: str, more: bool) -> None:
    expected = oracle(data, kind, more)
    assert expected == lines.ends(data, kind, more)
    assert len(expected) == lines.count(data, kind, more)
    assert [expected[-1] if expected else 0] == [lines.last_end(data, kind, more)]


@given(data, kinds, st.booleans())
def test_spans_follow_each_other_without_a_hole(data: bytes, kind: str, more: bool) -> None:
    spans = lines.spans(data, kind, more)
    assert oracle(data, kind, more) == [end for _, end in spans]
    assert [0, *(end for _, end in spans)][:-1] == [start for start, _ in spans] or not spans


@given(data, kinds, st.booleans(), st.integers(1, 6))
def test_the_nth_end_is_that_of_the_nth_event(data: bytes, kind: str, more: bool, n: int) -> None:
    found = oracle(data, kind, more)
    assert (found[n - 1] if len(found) >= n else -1) == lines.nth_end(data, kind, n, more=more)


@given(data, kinds, st.integers(1, 4))
def test_the_nth_end_counts_from_an_event_on(data: bytes, kind: str, n: int) -> None:
    found = oracle(data, kind, True)
    if found:
        expected = found[n] if len(found) > n else -1
        assert expected == lines.nth_end(data, kind, n, start=found[0])


@given(data, st.booleans())
def test_overwritten_states_are_those_that_end_in_a_carriage_return(
    data: bytes, more: bool
) -> None:
    expected = [end for end in oracle(data, TEXT, more) if data[end - 1] == 13]
    assert len(expected) == lines.progress(data, TEXT, more)
    assert lines.progress(data, EVENTS, more) == 0


def test_a_last_carriage_return_waits_for_the_byte_that_settles_it() -> None:
    assert lines.ends(b"10%\r", TEXT) == []
    assert lines.ends(b"10%\r", TEXT, more=False) == [4]
    assert lines.ends(b"10%\r2", TEXT) == [4]
    assert lines.ends(b"10%\r\n", TEXT) == [5]


@pytest.mark.parametrize("content", [b"", b"a\nb\n"])
def test_a_blob_has_no_events(content: bytes) -> None:
    assert lines.ends(content, BLOB) == []
    assert lines.count(content, BLOB) == lines.last_end(content, BLOB) == 0
    assert lines.nth_end(content, BLOB, 1) == -1
