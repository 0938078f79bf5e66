"""Docker's json-file: one JSON object per write of a container, 16 KiB at most.

    {"log":"step 1\\n","stream":"stdout","time":"2026-11-23T22:26:47.123456789Z"}

A longer line comes in parts: only the last one's text ends with a newline. So the texts, one
behind the other, are what the container wrote, and no part has to wait for another.
Docker replaces bytes that are no UTF-8 before it writes them; what it wrote is kept.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from loghaul.chunk import TEXT
from loghaul_ingest.foreign import said
from loghaul_ingest.foreign.entry import Entry, ForeignError, Producer
from loghaul_ingest.records import parse

_KEYS = frozenset({"log", "stream", "time", "attrs"})


def fits(found: dict[str, Any]) -> bool:
    """Whether a JSON object is a write in docker's file."""
    return (
        isinstance(found.get("log"), str)
        and found.get("stream") in ("stdout", "stderr")
        and "time" in found
        and found.keys() <= _KEYS
    )


def write_of(found: dict[str, Any]) -> tuple[str, bytes, int | None]:
    """Return (stdout or stderr, bytes, time) of a write."""
    return found["stream"], said.encoded(found["log"]), said.moment(found["time"])


def entries(value: bytes, producer: Producer) -> list[Entry]:
    """Return the writes of a record: one line of the file, or several."""
    found = []
    for text in value.splitlines():
        if not text.strip():
            continue
        write = parse(text)
        if write is None or not fits(write):
            raise ForeignError("record is no line of docker's json-file")
        stream, data, time_us = write_of(write)
        run = said.first_run(write.get("attrs"))
        who = replace(producer, run=run) if run else producer
        found.append(Entry(who, stream, TEXT, data, time_us))
    return found
