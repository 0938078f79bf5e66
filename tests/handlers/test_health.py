"""Our own diagnostics: counted always, written seldom, never in the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from loghaul import health


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(health, "counters", {})
    monkeypatch.setattr(health, "_written", {})
    monkeypatch.setattr(health, "_home", tmp_path)


def test_every_note_is_counted_and_one_in_ten_seconds_is_written(tmp_path: Path) -> None:
    for second in (0.0, 1.0, 2.0, 10.0, 11.0):
        health.note("lost", f"at {second}", now=second)
    lines = (tmp_path / "client.log").read_text().splitlines()
    assert health.counters == {"lost": 5}
    assert [line.partition("lost ")[2] for line in lines] == ["x1: at 0.0", "x3: at 10.0"]


def test_an_error_is_told_with_its_place_in_one_line(tmp_path: Path) -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError as error:
        health.note("failed", error)
    (line,) = (tmp_path / "client.log").read_text().splitlines()
    assert "ValueError: two | lines at " in line
    assert "test_health.py" in line


def test_the_log_does_not_grow_without_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "MAX_LOG_BYTES", 200)
    for number in range(100):
        health.note(f"reason {number}")
    assert (tmp_path / "client.log").stat().st_size < 400
    assert (tmp_path / "client.log.1").stat().st_size < 400


def test_a_home_that_cannot_be_written_is_survived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(health, "_home", tmp_path / "file")
    health.note("lost")
    assert health.counters == {"lost": 1}
    assert capfd.readouterr() == ("", "")
