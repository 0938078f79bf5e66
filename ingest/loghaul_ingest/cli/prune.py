"""`loghaul prune`: runs that ended long ago, or that a store has no room for, are gone."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from loghaul.config import Settings
from loghaul_ingest.cli import terminal
from loghaul_ingest.cli.home import opened
from loghaul_ingest.cli.listing import output_option, write_objects
from loghaul_ingest.errors import UsageError

if TYPE_CHECKING:
    from loghaul_ingest.retention import Removal, Rules

_TITLES = ("RUN", "STATUS", "ENDED", "SIZE", "WHY")


@click.command(short_help="Delete runs by age, or to make the store smaller.")
@click.option("--older-than", metavar="AGE", help="Runs that ended so long ago: 30d, 12h.")
@click.option(
    "--larger-than",
    metavar="SIZE",
    help="While the store is larger, runs that ended first first: 100GB, 500MiB.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@output_option
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def prune(
    older_than: str | None, larger_than: str | None, dry_run: bool, output: str, yes: bool
) -> None:
    """Delete the runs that ended long ago, or first while the store is too large, for good.

    A run that is still going on stays. Without options the settings retention_days and
    retention_bytes say what goes; a worker does the same by itself once an hour.

    \b
    loghaul prune --older-than 30d --dry-run
    loghaul prune --larger-than 100GB --yes

    \b
    The objects of json and ndjson: those of `loghaul runs`, and reason ("age", "size"), bytes.
    """
    from loghaul_ingest.retention import plan, remove

    with opened() as home:
        rules = _rules(home.settings, older_than, larger_than)
        sizes = home.reader.sizes()
        removals = plan(home.reader.runs(), sizes, rules, time.time_ns() // 1000)
    stored = sum(sizes.values())
    _show(removals, output)
    if not removals:
        terminal.notice(f"no run has to go; the store holds {terminal.size(stored)}")
        return
    if dry_run:
        terminal.notice(f"would delete {_counted(removals)} of {terminal.size(stored)}")
        return
    if not yes:
        _ask(removals, stored)
    done, problem = asyncio.run(remove(home.settings.store, removals))
    terminal.notice(f"deleted {_counted(done)} of {terminal.size(stored)}")
    if problem:
        from loghaul_ingest.cli import Failure

        raise Failure(problem)


def _rules(settings: Settings, older_than: str | None, larger_than: str | None) -> Rules:
    """Return what was asked for, and for what was not the settings."""
    from loghaul.config import most
    from loghaul_ingest.query.times import duration
    from loghaul_ingest.retention import Rules

    rules = Rules.of(settings)
    if older_than is not None:
        age = duration(older_than.strip())
        if not age:
            raise UsageError(f"--older-than {older_than!r} is no age; 30d, 12h, 90m are")
        rules = rules._replace(older_than_us=age)
    if larger_than is not None:
        try:
            rules = rules._replace(larger_than_bytes=most(larger_than))
        except ValueError as error:
            raise UsageError(f"--larger-than {larger_than!r} cannot be used: {error}") from None
    if not rules:
        raise UsageError(
            "give --older-than or --larger-than, or set retention_days or retention_bytes"
        )
    return rules


def _show(removals: Sequence[Removal], output: str) -> None:
    if output != "table":
        write_objects(map(_public, removals), output)
    elif removals:
        rows = [_cells(one) for one in removals]
        click.echo(terminal.table(_TITLES, rows, frozenset((3,))))


def _public(removal: Removal) -> dict[str, Any]:
    from loghaul_ingest.cli.runs import public

    return {**public(removal.row), "reason": removal.reason, "bytes": removal.bytes}


def _cells(removal: Removal) -> tuple[str, ...]:
    from loghaul_ingest.retention import AGE

    row, ended = removal.row, removal.row.ended or 0
    ago = terminal.duration(time.time() - ended / 1e6)
    why = f"ended {ago} ago" if removal.reason == AGE else "the store is too large"
    size = terminal.size(removal.bytes)
    return terminal.escape(row.run), row.status, terminal.when(ended), size, why


def _ask(removals: Sequence[Removal], stored: int) -> None:
    if not sys.stdin.isatty():
        raise UsageError(f"nobody can be asked here; give --yes to delete {_counted(removals)}")
    terminal.notice(f"{_counted(removals)} of {terminal.size(stored)}")
    click.confirm("Delete them for good?", abort=True, err=True)


def _counted(removals: Sequence[Removal]) -> str:
    size = terminal.size(sum(one.bytes for one in removals))
    return f"{len(removals):,} {'run' if len(removals) == 1 else 'runs'}, {size}"
