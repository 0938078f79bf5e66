"""`loghaul delete RUN`: the run is gone, at once and for good."""

from __future__ import annotations

import asyncio
import sys

import click

from loghaul_ingest.cli import terminal
from loghaul_ingest.cli.home import find_run, opened, run_argument
from loghaul_ingest.errors import NotFound, UsageError
from loghaul_ingest.runs import is_awaited
from loghaul_ingest.stores.base import RunRow


@click.command(short_help="Delete a run and everything it logged.")
@run_argument
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--force", is_flag=True, help="Also when the run is still running.")
def delete(run: str, yes: bool, force: bool) -> None:
    """Delete RUN and everything it logged, at once and for good.

    \b
    loghaul delete diabetes_1763 --yes
    """
    with opened() as home:
        row = find_run(home.reader, run)
        store = home.settings.store
        running = row.status == "running" and is_awaited(home.reader.streams(row.run))
    if running and not force:
        raise UsageError(
            f"run {row.run} is still running; end it first, or give --force to drop all of it"
        )
    if not yes:
        _ask(row)
    if not asyncio.run(_delete(store, row.run)):
        raise NotFound(f"run {row.run} is gone already")
    terminal.notice(f"deleted {row.run}")


def _ask(row: RunRow) -> None:
    if not sys.stdin.isatty():
        raise UsageError(f"nobody can be asked here; give --yes to delete {row.run}")
    terminal.notice(
        f"{row.run}: {row.status}, started {terminal.when(row.started)}, {row.lines:,} lines"
    )
    click.confirm("Delete it for good?", abort=True, err=True)


async def _delete(store: str, run: str) -> bool:
    from loghaul_ingest.stores import open_writer

    writer = open_writer(store)
    try:
        return await writer.delete_run(run)
    finally:
        await writer.close()
