"""writer.json: what is known of a writer, so that its bytes can be placed without it."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

from loghaul.errors import SpoolError, SpoolFormatError
from loghaul.spool.format import VERSION

FACTS_NAME = "writer.json"


class WriterFacts(NamedTuple):
    """id: 32 hex digits; started: microseconds since the epoch; facts: flat ECS fields."""

    id: str
    started: int
    facts: dict[str, Any]


def write_atomically(path: Path, body: Any) -> None:
    """Replace a JSON file as one step. Raises OSError; the old file is then untouched."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        # The builtin `open` is gone first when an interpreter ends.
        with io.open(fd, "w", encoding="utf-8") as file:  # noqa: UP020 - see above
            json.dump(body, file, separators=(",", ":"), default=str)
        os.replace(fresh, path)
    except BaseException:
        os.unlink(fresh)
        raise


def write_facts(directory: Path, facts: WriterFacts) -> None:
    """Write writer.json of a new directory."""
    write_atomically(directory / FACTS_NAME, {"format": VERSION, **facts._asdict()})


def read_facts(directory: Path) -> WriterFacts:
    """Return what writer.json says.

    Raises SpoolFormatError for a newer format, SpoolError when it is missing or unreadable.
    """
    path = directory / FACTS_NAME
    try:
        body = json.loads(path.read_bytes())
        if body["format"] > VERSION:
            raise SpoolFormatError(
                f"{path} was written by a newer loghaul (format {body['format']}, this one reads "
                f"up to {VERSION}): upgrade loghaul here; nothing was touched"
            )
        return WriterFacts(body["id"], body["started"], body["facts"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SpoolError(f"cannot read {path}: {type(error).__name__}: {error}") from error
