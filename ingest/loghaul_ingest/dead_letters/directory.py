"""Dead letters in a directory: two files each.

`<name>.json` says what and why, `<name>.bin` holds the bytes, which may be edited there before a
replay. The worker never reads them again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from loghaul_ingest.dead_letters.base import Letter
from loghaul_ingest.errors import NotFound, StoreError


class DirectoryLetters:
    """See `base.DeadLetters`. The directory is made when the first letter comes."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __str__(self) -> str:
        return str(self.directory)

    async def put(self, letter: Letter, data: bytes) -> None:
        """See `base.DeadLetters`. The bytes first: a description never stands without them."""
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._write(f"{letter.name}.bin", data)
            about = json.dumps(letter.about, indent=1, default=str).encode()
            self._write(f"{letter.name}.json", about)
        except OSError as error:
            why = f"{self.directory}: {error.strerror or error}"
            raise StoreError(f"a dead letter cannot be kept: {why}") from error

    async def letters(self) -> Sequence[Letter]:
        """See `base.DeadLetters`. A description that cannot be read says so."""
        if not self.directory.is_dir():
            return []
        return [_read(path) for path in sorted(self.directory.glob("[!.]*.json"))]

    async def data(self, letter: Letter) -> bytes:
        """See `base.DeadLetters`: the bytes as they stand in the file now."""
        try:
            return self.path(letter).read_bytes()
        except FileNotFoundError as error:
            raise NotFound(f"the bytes of dead letter {letter.name} are gone") from error
        except OSError as error:
            raise StoreError(f"{self.path(letter)} cannot be read: {error.strerror}") from error

    async def remove(self, letter: Letter, why: str) -> None:
        """See `base.DeadLetters`. The description first: it never stands without its bytes."""
        try:
            self.path(letter).with_suffix(".json").unlink(missing_ok=True)
            self.path(letter).unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"{self.path(letter)} cannot be removed: {error.strerror}") from error

    async def close(self) -> None:
        """See `base.DeadLetters`."""

    def path(self, letter: Letter) -> Path:
        """Return the file of a letter's bytes."""
        return self.directory / f"{letter.name}.bin"

    def _write(self, name: str, data: bytes) -> None:
        fresh = self.directory / f".{name}"
        with open(fresh, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        fresh.rename(self.directory / name)
        folder = os.open(self.directory, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _read(path: Path) -> Letter:
    try:
        about = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        about = {"reason": f"the letter's description cannot be read: {error}", "bytes": 0}
    where = str(path.with_suffix(".bin"))
    return Letter(path.stem, about if isinstance(about, dict) else {}, where)
