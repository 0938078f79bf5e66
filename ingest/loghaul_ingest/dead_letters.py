"""What no store would take, or what was no chunk: kept with its reason, for a person to look at.

One letter is two files in the directory: `<name>.json` says what and why, `<name>.bin` holds the
bytes. A letter is durable when `put` returns, so that the worker may go on behind it; it is never
read again by the worker. `record` and `chunk` in the first file hold what `loghaul dead-letters
replay` needs to put it on its way once more, with the bytes as they then stand in the second.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loghaul.chunk import Chunk, Mark, Record, StreamKey
from loghaul_ingest.block import Block, Facts
from loghaul_ingest.errors import NotFound, UsageError


class DeadLetters:
    """A directory of letters; made when the first one comes."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.count = 0
        self._numbers = itertools.count()

    def put(self, reason: str, about: Mapping[str, Any], data: bytes) -> Path:
        """Keep a letter. Raises OSError when it cannot be kept: then it was not, try again."""
        self.directory.mkdir(parents=True, exist_ok=True)
        name = f"{time.time_ns():020d}-{os.getpid()}-{next(self._numbers)}"
        self._write(f"{name}.bin", data)
        described = {"reason": reason, "bytes": len(data), **about}
        path = self._write(f"{name}.json", json.dumps(described, indent=1, default=str).encode())
        self.count += 1
        return path

    def letters(self) -> list[Letter]:
        """Return what there is, oldest first. A description that cannot be read says so."""
        if not self.directory.is_dir():
            return []
        return [_read(path) for path in sorted(self.directory.glob("[!.]*.json"))]

    def find(self, text: str) -> Letter:
        """Return a letter by its number in the list, from 1, or its name. Raises NotFound."""
        letters = self.letters()
        for number, letter in enumerate(letters, 1):
            if text in (letter.name, str(number)):
                return letter
        raise NotFound(f"no dead letter {text!r}; there are {len(letters)}")

    def remove(self, letter: Letter) -> None:
        """Forget a letter: the description first, so that it never stands without its bytes."""
        letter.path.unlink(missing_ok=True)
        letter.path.with_suffix(".bin").unlink(missing_ok=True)

    def _write(self, name: str, data: bytes) -> Path:
        fresh = self.directory / f".{name}"
        with open(fresh, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        return fresh.rename(self.directory / name)


@dataclass(frozen=True)
class Letter:
    """A letter as it lies there.

    about   what `put` was told, with "reason" and "bytes"
    """

    path: Path
    about: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Its name: begins with the time it was kept, in nanoseconds."""
        return self.path.stem

    @property
    def time_us(self) -> int:
        """When it was kept, microseconds since the epoch; 0 where the name does not say."""
        digits = self.name.partition("-")[0]
        return int(digits) // 1000 if digits.isdecimal() else 0

    @property
    def place(self) -> str:
        """Where it was on its way: the stream and offset of a block, the partition of a record."""
        about = self.about
        if "stream" in about:
            return f"{about['stream']}@{about['offset']}" if "offset" in about else about["stream"]
        return f"{about.get('partition', '?')}@{about.get('position', '?')}"

    @property
    def reason(self) -> str:
        """Why it is here."""
        return str(self.about.get("reason", "?"))

    def data(self) -> bytes:
        """Return its bytes as they are now."""
        return self.path.with_suffix(".bin").read_bytes()

    def item(self) -> Record | Chunk:
        """Return what was on its way, with the bytes as they are now.

        Raises UsageError where nothing is left that could be sent.
        """
        try:
            if "record" in self.about:
                return _record(self.about["record"], self.data())
            if "chunk" in self.about:
                return _chunk(self.about["chunk"], self.data())
        except (KeyError, TypeError, ValueError, OSError) as error:
            raise UsageError(f"dead letter {self.name} cannot be read: {error}") from error
        raise UsageError(f"dead letter {self.name} holds nothing that could be sent again")


def described(record: Record, time_us: int | None) -> dict[str, Any]:
    """Return what a letter says of a record: for people, and exactly."""
    return {
        "headers": {name: repr(value)[2:-1][:2000] for name, value in record.headers},
        "record": {
            "key": _encoded(record.key),
            "headers": [[name, _encoded(value)] for name, value in record.headers],
            "time_us": time_us,
        },
    }


def described_block(block: Block, facts: Facts | None) -> dict[str, Any]:
    """Return what a letter says of a block that no store would take."""
    head = block.head
    return {
        "stream": str(head.stream),
        "offset": head.offset,
        "chunk": {
            "key": list(head.stream),
            "kind": head.kind,
            "offset": head.offset,
            "marks": [list(mark) for mark in block.marks if mark.length],
            "started": facts.started if facts else head.time_min,
        },
    }


def _record(about: Mapping[str, Any], data: bytes) -> Record:
    headers = [(str(name), _decoded(value)) for name, value in about["headers"]]
    return Record(_decoded(about["key"]), data, headers)


def _chunk(about: Mapping[str, Any], data: bytes) -> Chunk:
    marks: Sequence[Mark] = [Mark(int(length), int(time_us)) for length, time_us in about["marks"]]
    if sum(mark.length for mark in marks) != len(data):
        raise ValueError("its bytes are more or fewer than they were: their place is fixed")
    key = StreamKey(*map(str, about["key"]))
    return Chunk(
        key, str(about["kind"]), int(about["offset"]), data, tuple(marks), int(about["started"])
    )


def _read(path: Path) -> Letter:
    try:
        about = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        about = {"reason": f"the letter's description cannot be read: {error}", "bytes": 0}
    return Letter(path, about if isinstance(about, dict) else {})


def _encoded(value: bytes | None) -> str | None:
    return None if value is None else base64.b64encode(value).decode()


def _decoded(value: str | None) -> bytes:
    return b"" if value is None else base64.b64decode(value)
