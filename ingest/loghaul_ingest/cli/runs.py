"""`loghaul runs`: what ran, newest first."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence
from typing import Any

import click

from loghaul_ingest.cli import terminal
from loghaul_ingest.cli.home import opened
from loghaul_ingest.cli.listing import output_option, write_objects
from loghaul_ingest.stores.base import RunRow

STATUSES = ("running", "completed", "failed", "canceled", "lost", "damaged")
_TITLES = ("RUN", "STATUS", "START", "DURATION", "LINES", "ERRORS")
_NUMBERS = frozenset((3, 4, 5))


@click.command(short_help="List the runs, newest first.")
@click.option("--experiment", metavar="E", help="Only runs of this experiment.")
@click.option("--status", type=click.Choice(STATUSES), help="Only runs that stand so.")
@click.option("--tag", "tags", multiple=True, metavar="K[=V]", help="Only runs with this tag.")
@output_option
@click.option("--all", "everything", is_flag=True, help="On a terminal too, not only a screenful.")
def runs(
    experiment: str | None,
    status: str | None,
    tags: tuple[str, ...],
    output: str,
    everything: bool,
) -> None:
    """List the runs, newest first: id, status, start, duration, lines, errors.

    \b
    loghaul runs --status failed
    loghaul runs --experiment diabetes --tag team=ml
    loghaul runs -o json | jq -r '.[0].id'

    \b
    The objects of json and ndjson: id, name, experiment, status, started, ended (RFC 3339, null
    while it runs), duration_seconds, nodes, attempts, lines, errors, tags.
    """
    with opened() as home:
        found = [
            row
            for row in home.reader.runs()
            if (experiment is None or row.experiment == experiment)
            and (status is None or row.status == status)
            and all(_tagged(row, tag) for tag in tags)
        ]
    if output != "table":
        write_objects(map(public, found), output)
    elif not found:
        narrowed = experiment or status or tags
        terminal.notice(
            "no run fits; try fewer filters"
            if narrowed
            else "no runs yet; try `loghaul run -- CMD`"
        )
    else:
        _show(found, everything)


def _tagged(row: RunRow, tag: str) -> bool:
    key, equals, value = tag.partition("=")
    return key in row.tags and (not equals or row.tags[key] == value)


def seconds(row: RunRow) -> float:
    """Return how long a run took, or has taken until now."""
    return max(0.0, ((row.ended or time.time() * 1e6) - row.started) / 1e6)


def public(row: RunRow) -> dict[str, Any]:
    """Return a run as json and ndjson show it."""
    return {
        "id": row.run,
        "name": row.name,
        "experiment": row.experiment,
        "status": row.status,
        "started": terminal.utc(row.started) if row.started else None,
        "ended": terminal.utc(row.ended) if row.ended is not None else None,
        "duration_seconds": round(seconds(row), 6) if row.started else None,
        "nodes": row.nodes,
        "attempts": row.attempts,
        "lines": row.lines,
        "errors": row.errors,
        "tags": dict(row.tags),
    }


def _cells(row: RunRow) -> tuple[str, ...]:
    return (
        terminal.escape(row.run),
        row.status,
        # Of a damaged run nothing is known but that it is there.
        terminal.when(row.started) if row.started else "-",
        terminal.duration(seconds(row)) if row.started else "-",
        f"{row.lines:,}",
        f"{row.errors:,}",
    )


def _show(found: Sequence[RunRow], everything: bool) -> None:
    """Print a table, on a terminal a screenful: the newest must not scroll away.

    Ids are what one copies: never cut nor folded; where the terminal is too narrow for them the
    year and the seconds go first, then each id gets a line of its own, and what is said of it as
    many lines as it needs.
    """
    watched = sys.stdout.isatty()
    size = shutil.get_terminal_size()
    room = size.columns if watched else sys.maxsize
    shown = found if everything or not watched else found[: max(5, size.lines - 4)]
    cells = [_cells(row) for row in shown]
    if _width(cells) > room:
        cells = [(*row[:2], row[2][5:16], *row[3:]) for row in cells]
    folds = _folds(cells, room)
    if len(shown) < len(found) and len(folds) > 1:
        cells = cells[: max(5, size.lines // len(folds) - 2)]
    widths = _widths(cells)
    lines = []
    for number, row in enumerate((_TITLES, *cells)):
        padded = [
            cell.rjust(width) if index in _NUMBERS else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        if watched and terminal.wants_colour():
            padded = _coloured(padded, found[number - 1] if number else None)
        for fold in folds:
            lines.append(("  " if fold.start else "") + "  ".join(padded[fold]).rstrip())
    click.echo("\n".join(lines))
    if len(cells) < len(found):
        older = len(found) - len(cells)
        terminal.notice(f"{older:,} older runs are not shown; --all shows them")


def _folds(cells: Sequence[Sequence[str]], room: int) -> list[slice]:
    """Return which columns stand on which line of a run: all on one, else the id alone."""
    if _width(cells) <= room:
        return [slice(0, None)]
    folds, begun, used = [slice(0, 1)], 1, 0
    for column, width in enumerate(_widths(cells)[1:], 1):
        used += 2 + width
        if used > room and column > begun:
            folds.append(slice(begun, column))
            begun, used = column, 2 + width
    return [*folds, slice(begun, None)]


def _widths(cells: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(_TITLES, *cells, strict=True)]


def _width(cells: Sequence[Sequence[str]]) -> int:
    """Return how wide a table is with two blanks between columns."""
    widths = _widths(cells)
    return sum(widths) + 2 * (len(widths) - 1)


def _coloured(padded: Sequence[str], row: RunRow | None) -> list[str]:
    if row is None:
        return [click.style(cell, bold=True) for cell in padded]
    found = list(padded)
    found[1] = click.style(found[1], fg=terminal.STATUS_COLOURS.get(row.status))
    found[5] = click.style(found[5], fg="red" if row.errors else "bright_black")
    return found
