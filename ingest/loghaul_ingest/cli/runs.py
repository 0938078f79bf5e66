"""`loghaul runs`: what ran, newest first."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

import click

from loghaul_ingest.cli import terminal
from loghaul_ingest.cli.home import opened
from loghaul_ingest.stores.base import RunRow

STATUSES = ("running", "completed", "failed", "canceled", "lost", "damaged")
_TITLES = ("RUN", "STATUS", "START", "DURATION", "LINES", "ERRORS")
_NUMBERS = frozenset((3, 4, 5))


@click.command(short_help="List the runs, newest first.")
@click.option("--experiment", metavar="E", help="Only runs of this experiment.")
@click.option("--status", type=click.Choice(STATUSES), help="Only runs that stand so.")
@click.option("--tag", "tags", multiple=True, metavar="K[=V]", help="Only runs with this tag.")
@click.option(
    "-o",
    "--output",
    type=click.Choice(("table", "json", "ndjson")),
    default="table",
    show_default=True,
    help="table for people; json: a list; ndjson: one object per line.",
)
def runs(experiment: str | None, status: str | None, tags: tuple[str, ...], output: str) -> None:
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
    if output == "json":
        terminal.write(b"[%s]\n" % b",\n".join(terminal.dumps(public(row)) for row in found))
    elif output == "ndjson":
        terminal.write(b"".join(terminal.dumps(public(row)) + b"\n" for row in found))
    elif not found:
        narrowed = experiment or status or tags
        terminal.notice(
            "no run fits; try fewer filters"
            if narrowed
            else "no runs yet; try `loghaul run -- CMD`"
        )
    else:
        _show(found)


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


#: Columns that an id has at least; a longer one is folded.
_LEAST_ID = 24


def _show(found: Sequence[RunRow]) -> None:
    cells = [_cells(row) for row in found]
    if not terminal.wants_colour() or not sys.stdout.isatty():
        click.echo(terminal.table(_TITLES, cells, _NUMBERS))
        return
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
    for index, title in enumerate(_TITLES):
        right = index in _NUMBERS
        # Ids are what one copies: they may fold over lines, but are never cut.
        shown.add_column(
            title, justify="right" if right else "left", overflow="fold", no_wrap=index != 0
        )
    for row, line in zip(found, cells, strict=True):
        styles = [""] * len(_TITLES)
        styles[1] = terminal.STATUS_COLOURS.get(row.status, "")
        styles[5] = "red" if row.errors else "bright_black"
        shown.add_row(*(Text(cell, style=style) for cell, style in zip(line, styles, strict=True)))
    console = terminal.console()
    # On a narrow terminal lines go on in the next one: nothing is cut, least of all the id.
    least = _LEAST_ID + sum(
        max(map(len, column)) + 2 for column in list(zip(_TITLES, *cells, strict=True))[1:]
    )
    console.width = max(console.width, least)
    console.print(shown)
