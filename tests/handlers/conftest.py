"""What the tests of the client share: reading back what a process put into the spool."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from loghaul import handler
from loghaul.spool.reader import SpoolReader


def read_writers(spool: Path) -> list[dict[str, Any]]:
    """Every writer below a spool: its facts, the events of its streams, and their ends."""
    found = []
    for directory in sorted(spool.glob("*")) if spool.is_dir() else []:
        if len(directory.name) != 32:
            continue
        reader = SpoolReader(directory)
        data, ends = b"", []
        while entries := reader.read():
            data += b"".join(entry.data for entry in entries)
            ends += [entry.end for entry in entries if entry.end is not None]
        events = [json.loads(line) for line in data.splitlines()]
        facts = reader.facts
        found.append(
            {"id": directory.name, "facts": facts, "events": events, "ends": ends, "data": data}
        )
        reader.close()
    return found


def read_events(spool: Path) -> list[dict[str, Any]]:
    return sorted(
        (event for writer in read_writers(spool) for event in writer["events"]),
        key=lambda event: event["@timestamp"],
    )


@pytest.fixture(autouse=True)
def handlers_as_in_a_fresh_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handler, "shared", False)
    monkeypatch.setattr(handler, "_late", False)
    monkeypatch.setattr(handler, "_handlers", 0)


@pytest.fixture
def writers_of():
    return read_writers


@pytest.fixture
def events_of():
    return read_events
