"""What lines of a followed file are: bytes as they stand, or writes of a container.

A form turns the bytes at a position into parts for the streams, and says how many bytes it took.
What is no line of its form is kept as it stands: nothing is lost.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple, Protocol

from loghaul_ingest.foreign import cri, docker
from loghaul_ingest.records import parse

FORMATS = ("plain", "auto", "docker", "cri")

#: A line that is longer is taken as it stands.
LONGEST_LINE_BYTES = 16 * 2**20

_LINE = re.compile(rb"[^\n]*\n|[^\n]+")


class Part(NamedTuple):
    """Bytes for the stream of that number. time_us: None is now."""

    stream: int
    data: bytes
    time_us: int | None


class Form(Protocol):
    """Turns bytes of a file into parts. Pure."""

    def __call__(self, data: bytes, last: bool) -> tuple[list[Part], int]:
        """Return the parts, and how many bytes they came from. last: no more will follow."""
        ...


def plain(data: bytes, last: bool) -> tuple[list[Part], int]:
    """Every byte as it stands, at once, a line's end or not."""
    return [Part(0, data, None)] if data else [], len(data)


def _docker(line: bytes) -> Part | None:
    found = parse(line)
    if found is None or not docker.fits(found):
        return None
    stream, data, time_us = docker.write_of(found)
    return Part(stream == "stderr", data, time_us)


def _cri(line: bytes) -> Part | None:
    found = cri.write_of(line)
    return None if found is None else Part(found[0] == "stderr", found[1], found[2])


def _of_lines(part_of: Callable[[bytes], Part | None]) -> Form:
    """Return the form whose lines `part_of` reads."""

    def form(data: bytes, last: bool) -> tuple[list[Part], int]:
        end = len(data) if last else data.rfind(b"\n") + 1
        if not end and len(data) >= LONGEST_LINE_BYTES:
            return [Part(0, data, None)], len(data)
        parts = []
        for line in _LINE.findall(data[:end]):
            part = part_of(line.removesuffix(b"\n"))
            parts.append(part or Part(0, line, None))
        return parts, end

    return form


FORMS: dict[str, Form] = {
    "plain": plain,
    "docker": _of_lines(_docker),
    "cri": _of_lines(_cri),
}


def recognise(data: bytes, last: bool) -> str | None:
    """Return the form of a file by its first line; None: not even that is there yet."""
    line, newline, _ = data.partition(b"\n")
    if not newline and not last and len(data) < LONGEST_LINE_BYTES:
        return None
    if cri.fits(line):
        return "cri"
    return "docker" if _docker(line) else "plain"
