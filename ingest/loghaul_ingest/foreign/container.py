"""What Fluent Bit and Vector send, as one thing: a text, which output it is of, and the rest.

Where there is no rest the text is a line of the container's output. With one (keys of a parsed
line, a level) it is a record.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from loghaul.chunk import EVENTS, TEXT
from loghaul_ingest import records
from loghaul_ingest.foreign import said
from loghaul_ingest.foreign.entry import Entry, Producer
from loghaul_ingest.foreign.line import Said, dump, line
from loghaul_ingest.foreign.plain import ended


def remembered(
    find: Callable[[Mapping[str, Any], Producer], Producer],
) -> Callable[[Mapping[str, Any], Producer], Producer]:
    """Return `find`, which tells who a record is of, asked once for all records that say the same.

    It is given what a record says of its producer and nothing else.
    """

    @lru_cache(maxsize=4096)
    def found(key: bytes, given: Producer) -> Producer:
        return find(records.parse(key) or {}, given)

    return lambda said_of_it, given: found(dump(said_of_it), given)


def entry(
    producer: Producer,
    stream: Any,
    text: str,
    time_us: int | None,
    rest: Mapping[str, Any],
    arrived_us: int,
    partial: bool = False,
) -> Entry:
    """Return the entry of a record.

    stream    "stdout" or "stderr" where the record says so
    rest      what it says beside its text, its time and its producer
    partial   the text is a part of a line, and another part follows
    """
    rest = {key: value for key, value in rest.items() if value is not None}
    if rest:
        data = line(structured(text, time_us, rest), arrived_us)
        return Entry(producer, "records", EVENTS, data, time_us)
    name = stream if stream in ("stdout", "stderr") else "output"
    data = said.encoded(text)
    return Entry(producer, name, TEXT, data if partial else ended(data), time_us)


def structured(text: str, time_us: int | None, rest: Mapping[str, Any]) -> Said:
    """Return what a record with keys of its own says: those that others use get ECS names."""
    flat = dict(records.flatten({**rest, "message": text.removesuffix("\n")}))
    fields = records.foreign_fields(flat)
    found = Said(fields.pop("message", text), time_us, fields.pop("log.level", None))
    found.logger = said.name(fields.pop("log.logger", None))
    for name, value in fields.items():
        if name.startswith("extra."):
            found.extra[name.removeprefix("extra.")] = value
        elif name == "event.created" and found.time_us is None:
            found.time_us = said.moment(value)
        else:
            found.fields[name] = value
    return found
