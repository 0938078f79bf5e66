"""`loghaul download RUN [FILE]...`: files of a run on disk, exact and verified."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from loghaul_ingest import files as tree_of
from loghaul_ingest.cli import terminal
from loghaul_ingest.cli.home import find_id, opened, run_argument
from loghaul_ingest.download import (
    Folder,
    Target,
    Zip,
    exact,
    safe_path,
    save,
    to_path,
)
from loghaul_ingest.errors import NotFound, UsageError
from loghaul_ingest.files import File, Proof, Prover
from loghaul_ingest.runs import attempts
from loghaul_ingest.stores.base import Reader

_path = click.Path(path_type=Path, resolve_path=False)


@click.command(short_help="Save files of a run, verified.")
@run_argument
@click.argument("file", nargs=-1)
@click.option("-o", "--output", metavar="PATH|-", help="One file to PATH, or to stdout.")
@click.option("--zip", "zip_path", metavar="PATH|-", help="Everything as one zip.")
@click.option("-d", "--directory", type=_path, metavar="DIR", help="Everything below DIR.")
@click.option("--node", metavar="NODE", help="Only files of this node.")
@click.option("--rank", type=int, metavar="N", help="Only files of this rank.")
@click.option("--attempt", type=int, metavar="N", help="Only files of this attempt.")
@click.option("--stream", metavar="NAME", help="Only stdout or stderr, exactly.")
def download(
    run: str,
    file: tuple[str, ...],
    output: str | None,
    zip_path: str | None,
    directory: Path | None,
    **narrowed: Any,
) -> None:
    """Save FILEs of RUN, or all of them, byte for byte, and prove them by their SHA-256.

    \b
    loghaul download latest                        all files into ./<run>/
    loghaul download latest --zip run.zip          all files as a zip
    loghaul download latest 70_driver_log.txt -o - | less
    loghaul download latest 70_driver_log.txt --stream stderr -o err.txt

    FILE is a path, a unique ending of one, or a glob. A driver log is stdout and stderr merged
    line by line in order of arrival; in a folder or zip each of the two stands beside it, exact,
    as .stdout and .stderr. loghaul-manifest.json there has the SHA-256 of every file and stream,
    whether it is verified, and every gap.

    What is written is there whole or not at all. Exit code 1 when a digest differs.
    """
    if sum(choice is not None for choice in (output, zip_path, directory)) > 1:
        raise UsageError("-o, --zip and -d exclude each other; give one")
    if "-" in (output, zip_path) and terminal.is_closed():
        raise UsageError("stdout is closed; nothing can be written to -")
    with opened() as home:
        found = find_id(home.reader, run)
        chosen = _chosen(home.reader, found, file, narrowed)
        if output is not None or (file and zip_path is None and directory is None):
            proofs = _one(home.reader, chosen, output, narrowed["stream"])
        else:
            proofs = _all(home.reader, found, chosen, zip_path, directory)
    _judge(proofs)


def _chosen(reader: Reader, run: str, names: Sequence[str], narrowed: dict[str, Any]) -> list[File]:
    rows = reader.streams(run)
    found = tree_of.tree(rows, attempts(rows))
    found = tree_of.narrow(found, narrowed["node"], narrowed["rank"], narrowed["attempt"])
    if names:
        wanted = {id(file): file for name in names for file in tree_of.select(found, name)}
        found = list(wanted.values())
    if narrowed["stream"] is not None:
        found = tree_of.only_stream(found, narrowed["stream"])
    if not found:
        raise NotFound(f"run {run} has no files yet; there is nothing to download")
    return found


def _one(
    reader: Reader, chosen: Sequence[File], output: str | None, stream: str | None
) -> list[tuple[File, Proof]]:
    """Write one file to a path or to stdout."""
    file = _single(chosen)
    provers = [Prover(row) for row in file.streams]
    if len(file.streams) == 1:
        data = exact(reader, file.streams[0], provers[0])
    else:
        data = _merged(reader, file, provers)
    if output == "-":
        for part in data:
            terminal.write(part)
        terminal.flush()
    else:
        path = Path(output) if output is not None else _fresh(file, stream)
        with _progress(file.bytes) as progress:
            to_path(path, _counting(data, progress), file.ended)
        if output is None:
            click.echo(str(path))
    return [(file, prover.proof()) for prover in provers]


def _single(chosen: Sequence[File]) -> File:
    if len(chosen) > 1:
        listed = ", ".join(
            f"{file.path} (node {file.node}"
            + (f", rank {file.rank}" if file.rank is not None else "")
            + f", attempt {file.attempt}, pid {file.pid})"
            for file in chosen[:6]
        )
        raise UsageError(
            f"{len(chosen)} files fit: {listed}; choose one with --node, --rank or --attempt, "
            "or give -d DIR or --zip PATH for all of them"
        )
    return chosen[0]


def _fresh(file: File, stream: str | None) -> Path:
    """Return the name that one file gets in the current folder; it must be free."""
    name = safe_path(file.path.rstrip("/").rsplit("/", 1)[-1])
    path = Path(f"{name}.{safe_path(stream).replace('/', '%2F')}" if stream else name)
    if path.exists():
        raise UsageError(f"{path} is there already; give -o PATH to say where to write")
    return path


def _merged(reader: Reader, file: File, provers: Sequence[Prover]) -> Iterator[bytes]:
    from loghaul_ingest.ahead import read_ahead
    from loghaul_ingest.merge import joined, merge
    from loghaul_ingest.pieces import Hole, pieces

    streams = [
        (map(prover.see, read_ahead(pieces(reader, row.facts))), row.facts.kind)
        for row, prover in zip(file.streams, provers, strict=True)
    ]
    return (item for item in joined(merge(streams)) if not isinstance(item, Hole))


def _all(
    reader: Reader,
    run: str,
    chosen: Sequence[File],
    zip_path: str | None,
    directory: Path | None,
) -> list[tuple[File, Proof]]:
    """Write files into a folder or a zip, with the manifest."""
    if zip_path is not None:
        pipe = sys.stdout.buffer if zip_path == "-" else None
        target: Target = Zip(None if zip_path == "-" else Path(zip_path), pipe)
        place = zip_path
    else:
        folder = directory if directory is not None else Path(safe_path(run).replace("/", "%2F"))
        target, place = Folder(folder), str(folder)
    # A merged driver log is read twice: once for its streams, once for itself.
    total = sum(file.bytes * (2 if len(file.streams) > 1 else 1) for file in chosen)
    with _progress(total) as progress:
        saved = save(reader, run, chosen, target, progress)
    written = sum(entry.bytes for entry in saved)
    if place != "-":
        terminal.notice(f"{len(saved)} files, {terminal.size(written)}: {place}")
    return [(entry.file, proof) for entry in saved for proof in entry.proofs]


def _counting(data: Iterator[bytes], progress: Callable[[int], None]) -> Iterator[bytes]:
    for part in data:
        progress(len(part))
        yield part


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """Show progress on stderr where that is a terminal and there is something to wait for."""
    if not sys.stderr.isatty() or total < 50_000_000:
        yield lambda count: None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn

    console = terminal.console(stderr=True)
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda count: bar.advance(task, count)


def _judge(proofs: Sequence[tuple[File, Proof]]) -> None:
    """Say what is missing; end with 1 when bytes are not those that were written."""
    from loghaul_ingest.cli import Failure

    missing = [
        (file, proof, sum(gap.length for gap in proof.gaps)) for file, proof in proofs if proof.gaps
    ]
    for file, proof, count in missing[:20]:
        reasons = ", ".join(sorted({gap.reason for gap in proof.gaps}))
        terminal.notice(f"{file.path} ({proof.name}): {count:,} bytes are missing: {reasons}")
    if len(missing) > 20:
        terminal.notice(f"{len(missing) - 20} more files have gaps; the manifest names them")
    wrong = [(file, proof) for file, proof in proofs if proof.differs]
    if wrong:
        file, proof = wrong[0]
        raise Failure(
            f"the bytes of {file.path} ({proof.name}) on node {file.node} are not those that were "
            f"written: SHA-256 is {proof.sha256}, its writer had {proof.expected}; "
            f"{len(wrong)} such file(s), the store may be damaged, run `loghaul doctor`"
        )
