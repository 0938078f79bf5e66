"""Who takes a record: one of all that could, whatever the order."""

from __future__ import annotations

import copy
import logging
import os
import pickle

import pytest

from loghaul import claims


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "_kept", [{}, {}, -1.0])
    monkeypatch.setattr(claims, "_announced", {})


def _record(**values: object) -> logging.LogRecord:
    return logging.makeLogRecord({"name": "n", "msg": "m", **values})


def test_the_first_one_takes_it_and_nobody_else_nor_a_copy() -> None:
    record = _record()
    assert claims.claim(record)
    assert not claims.claim(record)
    assert not claims.claim(copy.copy(record))


def test_a_handler_takes_over_what_the_tap_reserved_and_the_tap_keeps_the_rest() -> None:
    taken, left = _record(), _record()
    first, second = claims.reserve(taken), claims.reserve(left)
    assert claims.claim(taken)
    assert not claims.keep(taken, first)
    assert not claims.claim(copy.copy(left))
    assert claims.keep(left, second)
    assert not claims.claim(left)


def test_a_record_that_passes_the_tap_twice_is_kept_once() -> None:
    record = _record()
    assert claims.keep(record, claims.reserve(record))
    again = copy.copy(record)
    assert not claims.keep(again, claims.reserve(again))


def test_claims_do_not_grow_without_bound_and_a_late_copy_is_still_known() -> None:
    old = _record()
    copied = copy.copy(old)
    assert claims.claim(old)
    kept = [_record() for _ in range(3 * claims.MAX_CLAIMS)]
    assert all(claims.claim(record) for record in kept)
    assert len(claims._kept[0]) + len(claims._kept[1]) <= 2 * claims.MAX_CLAIMS + 2
    assert not claims.claim(copied, late=True)
    assert claims.claim(_record(), late=True)


def test_a_record_of_another_process_is_ours_where_nobody_took_it_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def received() -> logging.LogRecord:
        return pickle.loads(pickle.dumps(_record(process=os.getppid())))

    monkeypatch.setattr(claims, "took_itself", lambda pid: False)
    assert claims.claim(received())
    monkeypatch.setattr(claims, "took_itself", lambda pid: True)
    assert not claims.claim(received())


def test_without_the_hook_no_other_process_takes_its_own() -> None:
    assert not claims.took_itself(os.getppid())
