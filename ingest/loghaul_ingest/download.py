"""Files of a run onto a disk or into a zip: exact, verified while they are written, all or nothing.

Layout: `<node>/<path>`, below `attempt-<n>/` when the run has several attempts; equal paths of
several writers carry `.rank-<n>`, `.pid-<n>` or `.writer-<8 hex>` before their ending. A driver
log is merged line by line; where both of its outputs have bytes, each of them stands beside it,
exact, as `<path>.stdout` and `<path>.stderr`. `loghaul-manifest.json` has the SHA-256 of all that
was written, what is verified, and every gap.

Names come from scripts: what could lead out of the folder, is no name elsewhere, or would fall
together with another name is percent-encoded. Nothing is followed through a symbolic link.
Memory stays constant, whatever the size.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
import time
import unicodedata
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

from loghaul_ingest.ahead import read_ahead
from loghaul_ingest.errors import UsageError
from loghaul_ingest.files import File, Proof, Prover, content
from loghaul_ingest.pieces import Piece, pieces
from loghaul_ingest.stores.base import Reader, StreamRow

MANIFEST = "loghaul-manifest.json"

#: Bytes of one part of a path, and of all of it, that every file system takes.
LONGEST_NAME_BYTES = 200
LONGEST_PATH_BYTES = 900

#: Called with the number of bytes just written.
Progress = Callable[[int], None]

_UNSAFE = re.compile(r'[\x00-\x1f\x7f-\x9f\\:*?"<>|%\u2028-\u202e\u2066-\u2069\ud800-\udfff]')
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")


def safe_path(path: str) -> str:
    """Return a relative path of harmless parts that no other `path` gives.

    Percent-encoded: control and direction characters, `%`, what Windows forbids, `.` and `..`,
    leading slashes, lone surrogates. An overlong part ends with a hash of itself.
    """
    parts = [_safe_part(part) for part in path.split("/") if part not in ("", ".")]
    if path.startswith("/") and parts:
        parts[0] = "%2F" + parts[0]
    safe = "/".join(parts) or "%00"
    if len(safe.encode()) > LONGEST_PATH_BYTES:
        return f"{_cut(safe.replace('/', '%2F'), 100)}~{_hash(path)}"
    return safe


def _safe_part(part: str) -> str:
    if not part:
        return "%00"
    safe = _UNSAFE.sub(lambda match: _percent(match[0]), part)
    if not safe.strip(".") or safe.endswith((".", " ")) or _RESERVED.fullmatch(safe):
        safe = safe[:-1] + _percent(safe[-1])
        safe = safe.replace(".", "%2E") if not safe.strip(".%2E") else safe
    if len(safe.encode()) > LONGEST_NAME_BYTES:
        return f"{_cut(safe, LONGEST_NAME_BYTES - 20)}~{_hash(part)}"
    return safe


def _percent(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogatepass"))


def _cut(text: str, length: int) -> str:
    return text.encode()[:length].decode("utf-8", "ignore")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]


@dataclass
class Saved:
    """A file with the name it gets, and those of its exact streams; what was seen when written."""

    file: File
    name: str
    exact: dict[str, str]
    sha256: str = ""
    bytes: int = 0
    proofs: list[Proof] = field(default_factory=list)

    def public(self) -> dict[str, Any]:
        """Return it as the manifest shows it."""
        file = self.file
        return {
            "saved": self.name,
            "path": file.path,
            "node": file.node,
            "rank": file.rank,
            "attempt": file.attempt,
            "writer": file.writer,
            "pid": file.pid,
            "kind": file.kind,
            "bytes": self.bytes,
            "sha256": self.sha256,
            "complete": all(proof.verified or proof.differs for proof in self.proofs),
            "verified": verdict(self.proofs),
            "streams": [
                {
                    **proof.public(),
                    "saved": self.exact.get(proof.name),
                    "gaps": [gap._asdict() for gap in proof.gaps],
                }
                for proof in self.proofs
            ],
        }


def verdict(proofs: Sequence[Proof]) -> bool | str:
    """Return the weakest of what is known: True, "computed" or False."""
    if not all(proof.verified for proof in proofs):
        return False
    return "computed" if any(proof.verified == "computed" for proof in proofs) else True


def plan(files: Sequence[File]) -> list[Saved]:
    """Give every file a name of its own; the same files always get the same names."""
    several = len({file.attempt for file in files}) > 1
    taken = {_fold(MANIFEST)}
    folders: set[str] = set()
    for file in files:
        parts = _fold(_name(file, files, several)).split("/")
        folders.update("/".join(parts[:count]) for count in range(1, len(parts)))
    found = []
    for file in files:
        name = _free(_name(file, files, several), taken, folders)
        full = [row for row in file.streams if row.stored or row.holes]
        exact = {row.facts.stream.stream: name for row in full} if len(full) == 1 else {}
        if len(full) > 1:
            for row in full:
                stream = safe_path(row.facts.stream.stream.replace("/", "%2F"))
                exact[row.facts.stream.stream] = _free(f"{name}.{stream}", taken, folders)
        found.append(Saved(file, name, exact))
    return found


def _name(file: File, files: Sequence[File], several: bool) -> str:
    path = safe_path(file.path)
    twins = [
        other
        for other in files
        if (other.attempt, other.node, other.path) == (file.attempt, file.node, file.path)
    ]
    if len(twins) > 1:
        stem, dot, ending = path.rpartition(".")
        if not dot or "/" in ending:
            stem, dot, ending = path, "", ""
        path = f"{stem}.{_told_apart(file, twins)}{dot}{ending}"
    node = _safe_part(file.node).replace("/", "%2F")
    return f"attempt-{file.attempt}/{node}/{path}" if several else f"{node}/{path}"


def _told_apart(file: File, twins: Sequence[File]) -> str:
    if file.rank is not None and len({twin.rank for twin in twins}) == len(twins):
        return f"rank-{file.rank}"
    if file.pid is not None and len({twin.pid for twin in twins}) == len(twins):
        return f"pid-{file.pid}"
    return f"writer-{safe_path(file.writer)[:8]}"


def _fold(name: str) -> str:
    """Names that some file system takes for the same."""
    return unicodedata.normalize("NFC", name).casefold()


def _free(name: str, taken: set[str], folders: set[str]) -> str:
    count, candidate = 2, name
    while _fold(candidate) in taken or _fold(candidate) in folders:
        candidate, count = f"{name}~{count}", count + 1
    taken.add(_fold(candidate))
    return candidate


class Target(Protocol):
    """Where downloaded files go."""

    def add(self, name: str, data: Iterable[bytes], time_us: int | None) -> None:
        """Write one file."""
        ...

    def finish(self) -> None:
        """Show everything at once: only now is there something to see."""
        ...

    def abandon(self) -> None:
        """Leave nothing behind."""
        ...


def save(
    reader: Reader,
    run: str,
    files: Sequence[File],
    target: Target,
    progress: Progress = lambda count: None,
) -> list[Saved]:
    """Write files and the manifest to a target; return what was written and proven.

    On any error nothing is left behind, and the error goes on.
    """
    saved = plan(files)
    try:
        for entry in saved:
            _save(reader, entry, target, progress)
        target.add(MANIFEST, [manifest(run, saved)], None)
        target.finish()
    except BaseException:
        target.abandon()
        raise
    return saved


def _save(reader: Reader, entry: Saved, target: Target, progress: Progress) -> None:
    file = entry.file
    for row in file.streams:
        name = entry.exact.get(row.facts.stream.stream)
        prover = Prover(row)
        counted = _counted(exact(reader, row, prover), entry, progress)
        if name is None:
            for _ in counted:
                pass
        else:
            target.add(name, counted, row.time_max)
        entry.proofs.append(prover.proof())
    if entry.name not in entry.exact.values():
        merged = (item for item in content(reader, file) if isinstance(item, bytes))
        target.add(entry.name, _counted(merged, entry, progress), file.ended)


def exact(reader: Reader, row: StreamRow, prover: Prover) -> Iterator[bytes]:
    """Yield the bytes of a stream, seen by a prover as they pass."""
    for item in read_ahead(pieces(reader, row.facts)):
        prover.see(item)
        if isinstance(item, Piece):
            yield item.data


def _counted(data: Iterable[bytes], entry: Saved, progress: Progress) -> Iterator[bytes]:
    """Note digest and size of what is written; what is written last is the file itself."""
    digest, count = hashlib.sha256(), 0
    for part in data:
        digest.update(part)
        count += len(part)
        progress(len(part))
        yield part
    if count or not entry.sha256:
        entry.sha256, entry.bytes = digest.hexdigest(), count


def manifest(run: str, saved: Sequence[Saved]) -> bytes:
    """Return the manifest of a download: JSON, indented, for people and scripts."""
    import json

    content = {
        "run": run,
        "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "files": [entry.public() for entry in saved],
    }
    return json.dumps(content, indent=1).encode() + b"\n"


class Folder:
    """A folder on disk, existing or not; files are staged inside it and moved at the end."""

    def __init__(self, folder: Path) -> None:
        self._new = not folder.exists()
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._stage = Path(tempfile.mkdtemp(prefix=".loghaul-", dir=folder))
        self._names: list[str] = []

    def add(self, name: str, data: Iterable[bytes], time_us: int | None) -> None:
        """Write one file."""
        path = self._stage / name
        with _named(self._folder / name):
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "xb", buffering=0) as file:
                write_all(file, data)
        if time_us is not None:
            os.utime(path, ns=(time_us * 1000, time_us * 1000))
        self._names.append(name)

    def finish(self) -> None:
        """Move everything to its place."""
        root = os.path.realpath(self._folder)
        for name in self._names:
            place = os.path.realpath((self._folder / name).parent)
            if place != os.path.join(root, os.path.dirname(name)).rstrip("/"):
                raise UsageError(
                    f"{self._folder / name} lies behind a symbolic link; choose another folder"
                )
        for name in self._names:
            (self._folder / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(self._stage / name, self._folder / name)
        shutil.rmtree(self._stage, ignore_errors=True)

    def abandon(self) -> None:
        """Leave nothing behind."""
        shutil.rmtree(self._stage, ignore_errors=True)
        if self._new:
            try:
                self._folder.rmdir()
            except OSError:
                pass


class Zip:
    """A zip, written front to back: to a file (moved to its place at the end) or to a pipe."""

    def __init__(self, path: Path | None, pipe: IO[bytes] | None = None) -> None:
        self._path = path
        self._part: Path | None = None
        if pipe is None:
            assert path is not None
            handle, self._part = _part_of(path)
            pipe = os.fdopen(handle, "wb")
        self._file = pipe
        self._zip = zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED, compresslevel=1)

    def add(self, name: str, data: Iterable[bytes], time_us: int | None) -> None:
        """Write one file; its size is not known before, so it always has room for 64 bits."""
        seconds = time.time() if time_us is None else time_us / 1e6
        moment = time.localtime(min(max(seconds, 315619200.0), 4354732800.0))
        info = zipfile.ZipInfo(name, moment[:6])
        info.compress_type = zipfile.ZIP_DEFLATED
        info.external_attr = 0o644 << 16
        with _named(self._path), self._zip.open(info, "w", force_zip64=True) as entry:
            for part in data:
                entry.write(part)

    def finish(self) -> None:
        """Write the directory of the zip and move it to its place."""
        with _named(self._path):
            self._zip.close()
            self._file.flush()
            if self._part is not None and self._path is not None:
                self._file.close()
                self._part.chmod(0o666 & ~_umask())
                os.replace(self._part, self._path)

    def abandon(self) -> None:
        """Leave nothing behind; on a pipe nothing that looks like a whole zip."""
        self._zip.fp = None
        if self._part is not None:
            self._file.close()
            self._part.unlink(missing_ok=True)


def to_path(path: Path, data: Iterable[bytes], time_us: int | None) -> None:
    """Write one file so that it is there whole or not at all."""
    handle, part = _part_of(path)
    try:
        with _named(path):
            with os.fdopen(handle, "wb", buffering=0) as file:
                write_all(file, data)
            if time_us is not None:
                os.utime(part, ns=(time_us * 1000, time_us * 1000))
            part.chmod(0o666 & ~_umask())
            os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _part_of(path: Path) -> tuple[int, Path]:
    """Make a file beside `path` that is to become it: its descriptor and name."""
    with _named(path):
        handle, name = tempfile.mkstemp(prefix=f".{path.name[:50]}.", dir=path.parent)
        return handle, Path(name)


@contextmanager
def _named(path: Path | None) -> Iterator[None]:
    """Have an error name what was asked for, not the part that becomes it; None: a pipe."""
    try:
        yield
    except OSError as error:
        if path is None:
            raise
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def write_all(file: IO[bytes], data: Iterable[bytes]) -> None:
    """Write to a file without buffer, which may take less than it is given."""
    for part in data:
        view = memoryview(part)
        while view:
            view = view[file.write(view) :]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
