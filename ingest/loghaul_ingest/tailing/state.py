"""How far a file was followed, kept so that a kill -9 at any moment repeats and loses nothing.

Two files per followed file. `<name>.json` says which file it is and which streams its bytes go to;
it is replaced as a whole when the file is rotated or a new writer begins. `<name>.at` is mapped:
two slots, written in turn, each with its CRC, so that one is always whole. A slot is written before
bytes are appended to the spool ("under way") and after. When it says "under way", the ends of the
streams in the spool tell how much of it was appended: those bytes are skipped when they are read
again. Like the spool's own, these writes outlive the process; power loss is not covered.
"""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import struct
import zlib
from dataclasses import asdict, dataclass, field, replace
from hashlib import blake2b
from pathlib import Path

from loghaul_ingest.errors import IngestError

#: sequence, generation, position, offset of each stream, under way
_SLOT = struct.Struct("<QQQqqQ")
_SLOT_BYTES = 64


class Followed(IngestError):
    """Another process follows this file into this run."""

    permanent = True


@dataclass(frozen=True)
class Identity:
    """Which file is followed, and where its bytes go.

    head          digest of its first `head_bytes` bytes: an inode may be used again
    writer        of the spool, that got the bytes; streams: their names there
    position      in the file, where this generation began; offsets: of the streams there (below 0:
                  so many bytes that are read again are in an earlier writer's streams)
    form          plain, docker or cri
    """

    path: str
    run: str
    generation: int = 0
    device: int = 0
    inode: int = 0
    head: str = ""
    head_bytes: int = 0
    writer: str = ""
    spool: str = ""
    streams: tuple[str, ...] = ()
    position: int = 0
    offsets: tuple[int, int] = (0, 0)
    form: str = ""


@dataclass(frozen=True)
class At:
    """How far it is: `position` of the file is `offsets` of the streams. under_way: or behind."""

    position: int = 0
    offsets: tuple[int, int] = (0, 0)
    under_way: bool = False
    generation: int = field(default=0, compare=False)


class State:
    """The state of one followed file. Raises OSError where it cannot be kept."""

    def __init__(self, folder: Path, run: str, path: str) -> None:
        """Open it, or begin it. Raises Followed when another process has it open."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = blake2b(repr((run, path)).encode("utf-8", "backslashreplace"), digest_size=12)
        self._json = folder / f"{name.hexdigest()}.json"
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self._fd = os.open(folder / f"{name.hexdigest()}.at", flags, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._fd)
            raise Followed(f"{path} is followed into run {run} by another process") from None
        os.posix_fallocate(self._fd, 0, 2 * _SLOT_BYTES)
        self._map = mmap.mmap(self._fd, 2 * _SLOT_BYTES)
        self._sequence = max(self._slot(0)[0], self._slot(1)[0])
        self.identity = self._read() or Identity(path, run)

    def at(self) -> At:
        """Return how far it is."""
        _, at = max(self._slot(0), self._slot(1), key=lambda slot: slot[0])
        if at is not None and at.generation == self.identity.generation:
            return at
        return At(self.identity.position, self.identity.offsets)

    def begin(self, identity: Identity) -> None:
        """Begin a new generation: another file, another writer."""
        identity = replace(identity, generation=self.identity.generation + 1)
        fresh = self._json.with_suffix(".new")
        fresh.write_text(json.dumps(asdict(identity)))
        os.replace(fresh, self._json)
        self.identity = identity

    def put(self, at: At) -> None:
        """Note how far it is."""
        self._sequence += 1
        body = _SLOT.pack(
            self._sequence, self.identity.generation, at.position, *at.offsets, at.under_way
        )
        start = self._sequence % 2 * _SLOT_BYTES
        # The CRC comes last: a slot that was being written when we died is none.
        self._map[start : start + _SLOT.size] = body
        crc = struct.pack("<I", zlib.crc32(body))
        self._map[start + _SLOT.size : start + _SLOT.size + 4] = crc

    def close(self) -> None:
        """Give it up; the next one goes on from here."""
        self._map.close()
        os.close(self._fd)

    def _slot(self, number: int) -> tuple[int, At | None]:
        start = number * _SLOT_BYTES
        body = self._map[start : start + _SLOT.size]
        (crc,) = struct.unpack_from("<I", self._map, start + _SLOT.size)
        sequence, generation, position, first, second, under_way = _SLOT.unpack(body)
        if zlib.crc32(body) != crc or not sequence:
            return 0, None
        return sequence, At(position, (first, second), bool(under_way), generation)

    def _read(self) -> Identity | None:
        try:
            found = json.loads(self._json.read_bytes())
            for name in ("streams", "offsets"):
                found[name] = tuple(found[name])
            return Identity(**found)
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError) as error:
            raise IngestError(
                f"{self._json} cannot be read ({error}): how far its file was followed is not "
                "known; remove it to begin anew"
            ) from error
