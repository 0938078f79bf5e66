"""The files of a run, as a user knows them: paths in the tree of a node, made of streams.

A file is the streams that one writer wrote under one path: one, or the two outputs of a driver
log, which are merged line by line in order of arrival when the file is read. Equal paths of
several writers are files of their own. What is exact, ends, and has a digest is the stream.
"""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loghaul.chunk import BLOB, Gap
from loghaul_ingest.errors import NotFound, UsageError
from loghaul_ingest.merge import Part, joined, merge
from loghaul_ingest.pieces import Hole, Piece, gaps_of, pieces
from loghaul_ingest.stores.base import Reader, StreamRow

#: What people look at first: the output of the training processes.
DRIVER_LOG = "azureml-logs/70_driver_log"


@dataclass(frozen=True)
class File:
    """A path of one writer. `rank` and `pid` are None where the writer did not know them."""

    path: str
    node: str
    rank: int | None
    attempt: int
    writer: str
    pid: int | None
    kind: str
    streams: tuple[StreamRow, ...]

    @property
    def bytes(self) -> int:
        """Bytes that are stored."""
        return sum(row.stored for row in self.streams)

    @property
    def lines(self) -> int:
        """Events that are stored, states of progress bars included."""
        return sum(row.lines for row in self.streams)

    @property
    def complete(self) -> bool:
        """Whether all streams have ended and every byte to their ends is there."""
        return all(complete(row) for row in self.streams)

    @property
    def gaps(self) -> list[tuple[str, Gap]]:
        """(stream, what is missing of it), in order."""
        return [
            (row.facts.stream.stream, gap)
            for row in self.streams
            for gap in gaps_of(row.facts, row.holes)
        ]

    @property
    def ended(self) -> int | None:
        """Greatest time of its events in microseconds; None when it has none."""
        times = [row.time_max for row in self.streams if row.time_max is not None]
        return max(times) if times else None


def complete(row: StreamRow) -> bool:
    """Return whether a stream has ended and every byte to its end is stored."""
    return row.facts.end is not None and row.stored == row.facts.end.length


def tree(rows: Iterable[StreamRow], attempts: Mapping[str, int]) -> list[File]:
    """Return the files of a run by attempt, node, path, rank and writer.

    attempts    of each writer (`loghaul_ingest.runs.attempts`)
    """
    grouped: dict[tuple[str, str], list[StreamRow]] = {}
    for row in rows:
        path = str(row.facts.common.get("log.file.path") or row.facts.stream.stream)
        grouped.setdefault((row.facts.stream.writer, path), []).append(row)
    found = [_file(path, writer, group, attempts) for (writer, path), group in grouped.items()]
    return sorted(found, key=_order)


def _file(path: str, writer: str, group: Sequence[StreamRow], attempts: Mapping[str, int]) -> File:
    common = group[0].facts.common
    streams = tuple(sorted(group, key=lambda row: _io_order(row.facts.stream.stream)))
    return File(
        path=path,
        node=str(common.get("run.node") or common.get("host.name") or "unknown-node"),
        rank=_number(common.get("run.rank")),
        attempt=attempts.get(writer, 1),
        writer=writer,
        pid=_number(common.get("process.pid")),
        kind=group[0].facts.kind,
        streams=streams,
    )


def _io_order(name: str) -> tuple[bool, str]:
    return not name.startswith("stdout"), name


def _order(file: File) -> tuple[Any, ...]:
    rank = -1 if file.rank is None else file.rank
    return (file.attempt, file.node, file.path, rank, file.streams[0].facts.started, file.writer)


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def narrow(
    files: Sequence[File],
    node: str | None = None,
    rank: int | None = None,
    attempt: int | None = None,
) -> list[File]:
    """Return the files of a node, rank and attempt; NotFound, with what there is, when none is."""
    tests: list[tuple[str, Any, Callable[[File], Any]]] = [
        ("node", node, lambda file: file.node),
        ("rank", rank, lambda file: file.rank),
        ("attempt", attempt, lambda file: file.attempt),
    ]
    left = list(files)
    for name, wanted, value in tests:
        if wanted is None:
            continue
        there = {value(file) for file in left if value(file) is not None}
        left = [file for file in left if value(file) == wanted]
        if not left:
            shown = ", ".join(str(item) for item in sorted(there)[:20]) or "none"
            raise NotFound(f"no file of {name} {wanted} in this run; {name}s: {shown}")
    return left


def select(files: Sequence[File], name: str) -> list[File]:
    """Return the files that `name` means: a path, a unique ending of one, `node/path`, or a glob.

    Several are returned only for equal paths of several writers and for a glob. Raises NotFound
    with the nearest paths, UsageError when an ending fits several paths.
    """
    for test in (
        lambda file: file.path == name,
        lambda file: f"{file.node}/{file.path}" == name,
        lambda file: file.path.endswith("/" + name),
        lambda file: file.path.endswith(name),
    ):
        found = [file for file in files if test(file)]
        paths = sorted({file.path for file in found})
        if len(paths) > 1:
            raise UsageError(f"{name!r} fits several files: {', '.join(paths[:10])}; give one")
        if found:
            return found
    found = [file for file in files if fnmatch.fnmatchcase(file.path, name)]
    found = found or [file for file in files if fnmatch.fnmatchcase(file.path.split("/")[-1], name)]
    if not found:
        raise NotFound(f"no file {name!r} in this run{_near(files, name)}")
    return found


def _near(files: Sequence[File], name: str) -> str:
    import difflib

    by_name = {path.rsplit("/", 1)[-1]: path for path in {file.path for file in files}}
    candidates = [*by_name, *by_name.values()]
    near = difflib.get_close_matches(name, candidates, n=2, cutoff=0.5)
    if near:
        return f"; did you mean {' or '.join(sorted({by_name.get(hit, hit) for hit in near}))}?"
    shown = sorted(by_name.values())
    return f"; it has: {', '.join(shown[:8])}{' ...' if len(shown) > 8 else ''}" if shown else ""


def default(files: Sequence[File]) -> list[File]:
    """Return what to show when nobody says which: the driver logs of the latest attempt.

    Where there are none: its other outputs, its records, then all of its text.
    """
    readable = [file for file in files if file.kind != BLOB]
    if not readable:
        return []
    latest = max(file.attempt for file in readable)
    newest = [file for file in readable if file.attempt == latest]
    for test in (
        lambda file: file.path.startswith(DRIVER_LOG),
        lambda file: any(row.facts.common.get("log.iostream") for row in file.streams),
        lambda file: file.path.startswith("logs/azureml/"),
    ):
        found = [file for file in newest if test(file)]
        if found:
            return found
    return newest


def only_stream(files: Iterable[File], name: str) -> list[File]:
    """Return the files reduced to one stream each: "stdout", "stderr" or a stream's full name."""
    found = []
    for file in files:
        rows = tuple(
            row
            for row in file.streams
            if name in (row.facts.stream.stream, row.facts.common.get("log.iostream"))
        )
        if rows:
            found.append(File(**{**file.__dict__, "streams": rows}))
    if not found:
        raise NotFound(f"none of these files has a stream {name!r}; try without --stream")
    return found


def parts(reader: Reader, file: File, starts: Mapping[str, int] | None = None) -> Iterator[Part]:
    """Yield what a file is made of, merged; `starts` says from which offset per stream name."""
    starts = starts or {}
    return merge(
        [
            (pieces(reader, row.facts, starts.get(row.facts.stream.stream, 0)), row.facts.kind)
            for row in file.streams
        ]
    )


def content(reader: Reader, file: File) -> Iterator[bytes | Hole]:
    """Yield the bytes of a file in large pieces, and its holes where they are.

    One stream: its exact bytes. Two: merged line by line in order of arrival.
    """
    if len(file.streams) == 1:
        for item in pieces(reader, file.streams[0].facts):
            yield item.data if isinstance(item, Piece) else item
        return
    yield from joined(parts(reader, file))


@dataclass(frozen=True)
class Proof:
    """What is known of the bytes of a stream after they were read.

    verified    True: all bytes to the end are there and have the writer's digest;
                "computed": all are there, the writer gave no digest; False: some are missing,
                the stream has not ended, or `expected` differs
    """

    name: str
    bytes: int
    sha256: str
    verified: bool | str
    expected: str | None
    gaps: tuple[Gap, ...]

    @property
    def differs(self) -> bool:
        """Whether all bytes are there but they are not those that the writer wrote."""
        return self.expected is not None and not self.gaps and self.sha256 != self.expected

    def public(self) -> dict[str, Any]:
        """Return it as `files -o json` and the manifest of a download show it."""
        shown: dict[str, Any] = {
            "name": self.name,
            "bytes": self.bytes,
            "sha256": self.sha256,
            "verified": self.verified,
        }
        if self.differs:
            shown["expected_sha256"] = self.expected
        return shown


class Prover:
    """Takes the items of one stream as they pass and says what they prove.

    Built for a row as it was listed; bytes that came later are counted too.
    """

    def __init__(self, row: StreamRow) -> None:
        self._row = row
        self._digest = hashlib.sha256()
        self._bytes = 0
        self._gaps: list[Gap] = []

    def see(self, item: Piece | Hole) -> Piece | Hole:
        """Count an item; returns it."""
        if isinstance(item, Piece):
            self._digest.update(item.data)
            self._bytes += len(item.data)
        else:
            self._gaps.append(Gap(item.offset, item.length, item.reason))
        return item

    def proof(self) -> Proof:
        """Return what the items so far prove."""
        end = self._row.facts.end
        digest = self._digest.hexdigest()
        whole = end is not None and not self._gaps and self._bytes == end.length
        expected = end.sha256 if end is not None else None
        verified: bool | str = False
        if whole:
            verified = digest == expected if expected is not None else "computed"
        name = self._row.facts.stream.stream
        return Proof(name, self._bytes, digest, verified, expected, tuple(self._gaps))


def prove(reader: Reader, row: StreamRow) -> Proof:
    """Read a stream to its end and return what its bytes prove."""
    prover = Prover(row)
    for item in pieces(reader, row.facts):
        prover.see(item)
    return prover.proof()


def public(reader: Reader | None, file: File) -> dict[str, Any]:
    """Return a file as `files -o json` shows it; without a reader nothing is read or proven."""
    return {
        "path": file.path,
        "node": file.node,
        "rank": file.rank,
        "attempt": file.attempt,
        "writer": file.writer,
        "pid": file.pid,
        "kind": file.kind,
        "bytes": file.bytes,
        "lines": file.lines,
        "complete": file.complete,
        "gaps": [{"stream": name, **gap._asdict()} for name, gap in file.gaps],
        "streams": [
            prove(reader, row).public()
            if reader is not None
            else {"name": row.facts.stream.stream, "bytes": row.stored}
            for row in file.streams
        ],
    }
