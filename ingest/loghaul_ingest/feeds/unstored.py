"""Which runs the topic tells of beyond what the workers have stored: they have just begun, or no
worker works."""

from __future__ import annotations

import time

from loghaul_ingest.feeds.connection import Connection
from loghaul_ingest.feeds.course import RECENT_SECONDS, Course


async def unstored(connection: Connection, seconds: float) -> list[str]:
    """Return the ids of such runs, the latest start last; what was found within that time.

    Raises TransportError.
    """
    try:
        return await _read(connection, time.monotonic() + seconds)
    finally:
        await connection.close()


async def _read(connection: Connection, until: float) -> list[str]:
    await connection.open()
    course = Course()
    course.grow(connection.count)
    numbers = range(course.count)
    committed = await connection.committed(numbers)
    bounds = await connection.bounds(numbers, RECENT_SECONDS)
    left = {n for n in numbers if course.start(n, committed, None, bounds[n]) < bounds[n].end}
    connection.read(course.next)
    found: dict[str, int] = {}
    while left and time.monotonic() < until:
        records = await connection.records(0.1)
        for number, batch in records.items():
            for record in batch:
                _note(dict(record.headers), found)
            course.next[number] = batch[-1].offset + 1
        for number in list(left):
            at = course.next[number] if records else await connection.position(number)
            if at >= bounds[number].end:
                left.discard(number)
    return sorted(found, key=lambda run: found[run])


def _note(headers: dict[str, bytes], found: dict[str, int]) -> None:
    """Take the run of a record that is a chunk, and when its writer started."""
    started = headers.get("started", b"")
    if "schema" in headers and "run" in headers and started.isdigit():
        run = headers["run"].decode("utf-8", "surrogateescape")
        found[run] = min(int(started), found.get(run, int(started)))
