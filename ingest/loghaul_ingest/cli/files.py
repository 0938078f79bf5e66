"""`loghaul files RUN`: the log files of a run as a tree per node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from loghaul.chunk import Gap
from loghaul_ingest.cli import terminal
from loghaul_ingest.cli.home import find_id, opened, run_argument
from loghaul_ingest.cli.runs import seconds
from loghaul_ingest.files import File, Proof, prove, public, tree
from loghaul_ingest.runs import attempts, summarise
from loghaul_ingest.stores.base import RunRow

#: A tree proves digests by itself when reading all of it takes a blink.
PROVE_BYTES = 64 * 1024 * 1024

_Proofs = Mapping[int, Sequence[Proof]]


@click.command(short_help="Show the log files of a run as a tree.")
@run_argument
@click.option(
    "-o",
    "--output",
    type=click.Choice(("tree", "json")),
    default="tree",
    show_default=True,
    help="tree for people; json: a list of objects.",
)
@click.option(
    "--verify/--no-verify",
    default=None,
    help="Read every byte and prove the digests; a tree does so by itself for small runs.",
)
def files(run: str, output: str, verify: bool | None) -> None:
    """Show the log files of RUN: a tree per node, what is complete, and what is missing.

    \b
    loghaul files latest
    loghaul files latest -o json | jq '.[] | {path, complete}'

    \b
    The objects of json: path, node, rank, attempt, writer, pid, kind (text, events, blob), bytes,
    lines, complete, gaps [{stream, offset, length, reason}], streams [{name, bytes, sha256,
    verified}]. verified: true when all bytes are there and have the digest that their writer saw;
    "computed" when all are there and the writer could not tell one; else false.
    """
    with opened() as home:
        rows = home.reader.streams(find_id(home.reader, run))
        found = tree(rows, attempts(rows))
        if output == "json":
            shown = (terminal.dumps(public(_reader(home.reader, verify), file)) for file in found)
            terminal.write(b"[%s]\n" % b",\n".join(shown))
            return
        if verify is None:
            verify = sum(file.bytes for file in found) <= PROVE_BYTES
        proofs: dict[int, list[Proof]] = {}
        for file in found if verify else ():
            proofs[id(file)] = [prove(home.reader, stream) for stream in file.streams]
    _show(summarise(rows), found, proofs)


def _reader(reader: Any, verify: bool | None) -> Any:
    return None if verify is False else reader


def _show(run: RunRow, found: Sequence[File], proofs: _Proofs) -> None:
    from rich.text import Text
    from rich.tree import Tree

    title = Text.assemble(
        (terminal.escape(run.run), "bold"),
        "  ",
        (run.status, terminal.STATUS_COLOURS.get(run.status, "")),
        f"  {terminal.duration(seconds(run))}",
    )
    root = Tree(title, guide_style="bright_black")
    several_attempts = len({file.attempt for file in found}) > 1
    folders: dict[tuple[object, ...], Any] = {(): root}
    for file in found:
        place: tuple[object, ...] = ()
        names = [f"attempt {file.attempt}"] if several_attempts else []
        for name in (*names, file.node, *(part for part in file.path.split("/")[:-1] if part)):
            parent, place = folders[place], (*place, name)
            if place not in folders:
                label = Text(terminal.escape(name), style="bold blue")
                folders[place] = parent.add(label)
        leaf = folders[place].add(_leaf(file, found, proofs.get(id(file))))
        for stream, gap in file.gaps:
            leaf.add(Text(describe(gap, stream if len(file.streams) > 1 else None), style="red"))
    console = terminal.console()
    if not console.is_terminal:
        console.width = 10_000
    console.print(root, soft_wrap=not console.is_terminal)
    if console.is_terminal and len(found) > 20:
        _sum_up(found, proofs)


def _sum_up(found: Sequence[File], proofs: _Proofs) -> None:
    """Say behind a long tree what has scrolled away and matters."""
    marks = [mark(file, proofs.get(id(file)))[0] for file in found]
    wrong = [
        terminal.escape(f"{file.node}/{file.path}")
        for file, text in zip(found, marks, strict=True)
        if text in ("incomplete", "SHA-256 DIFFERS")
    ]
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        names = ", ".join(wrong[:5])
        terminal.notice(f"{len(wrong)} of {len(found)} files are not whole: {names}{more}")


def _leaf(file: File, found: Sequence[File], proofs: Sequence[Proof] | None) -> Any:
    from rich.text import Text

    name = terminal.escape(file.path.rsplit("/", 1)[-1])
    text = Text.assemble(name, (_who(file, found), "cyan"))
    text.append(f"  {terminal.size(file.bytes)}  {_count(file.lines, 'line')}", "bright_black")
    text.append("  ").append(*mark(file, proofs))
    return text


def _who(file: File, found: Sequence[File]) -> str:
    """Return what tells a file from others of the same path on the same node."""
    twins = [
        other
        for other in found
        if (other.attempt, other.node, other.path) == (file.attempt, file.node, file.path)
    ]
    if len(twins) == 1:
        return ""
    if file.rank is not None and len({twin.rank for twin in twins}) == len(twins):
        return f" [rank {file.rank}]"
    if file.pid is not None and len({twin.pid for twin in twins}) == len(twins):
        return f" [pid {file.pid}]"
    return f" [writer {file.writer[:8]}]"


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"


def mark(file: File, proofs: Sequence[Proof] | None) -> tuple[str, str]:
    """Return (what is known of the completeness of a file, its colour)."""
    if any(row.facts.end is None for row in file.streams):
        return "open", "cyan"
    if not file.complete:
        return "incomplete", "red"
    if proofs is None:
        return "complete", "green"
    if any(proof.differs for proof in proofs):
        return "SHA-256 DIFFERS", "bright_red"
    if not all(proof.verified for proof in proofs):
        return "incomplete", "red"
    if any(proof.verified == "computed" for proof in proofs):
        return "complete, sha256 computed", "green"
    return "complete, sha256 verified", "green"


def describe(gap: Gap, name: str | None) -> str:
    """Return a gap as one sentence: `stderr: bytes 4,096-8,191 never arrived: spool full`."""
    place = f"{terminal.escape(name)}: " if name else ""
    last = gap.offset + gap.length - 1
    if gap.reason == "not here yet":
        return f"{place}bytes {gap.offset:,}-{last:,} are not here yet"
    return f"{place}bytes {gap.offset:,}-{last:,} never arrived: {terminal.escape(gap.reason)}"
