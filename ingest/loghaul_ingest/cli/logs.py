"""`loghaul logs RUN [FILE]`: print what a run said, and follow it while it goes on."""

from __future__ import annotations

from typing import Any

import click

from loghaul_ingest.cli.home import Home, find_beginning, find_id, opened, run_argument
from loghaul_ingest.cli.options import Level, Moment
from loghaul_ingest.cli.show import Show
from loghaul_ingest.errors import NotFound, UsageError


@click.command(short_help="Print the logs of a run; -f follows it.")
@run_argument
@click.argument("file", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on until the run ends.")
@click.option("--tail", type=click.IntRange(0), metavar="N", help="Only the last N lines.")
@click.option("--since", type=Moment(), help="Only lines since 10m ago, or since a time.")
@click.option("--node", metavar="NODE", help="Only files of this node.")
@click.option("--rank", type=int, metavar="N", help="Only files of this rank.")
@click.option("--attempt", type=int, metavar="N", help="Only this attempt; default: the latest.")
@click.option("--level", type=Level(), help="Only lines at least so bad.")
@click.option("-q", "--query", metavar="QUERY", help="Only lines that match.")
@click.option("-t", "--timestamps", is_flag=True, help="When each line arrived, in UTC.")
@click.option("--stream", metavar="NAME", help="Only stdout or stderr of a file.")
@click.option(
    "--raw", is_flag=True, help="The bytes as they were; nothing shown, nothing left out."
)
@click.option(
    "--collapse/--no-collapse",
    default=True,
    help="Of a progress bar only the last state (default), or all.",
)
@click.option(
    "--color",
    type=click.Choice(("auto", "always", "never")),
    default="auto",
    show_default=True,
    help="Colours; auto: on a terminal.",
)
@click.option(
    "-o",
    "--output",
    type=click.Choice(("text", "ndjson")),
    default="text",
    show_default=True,
    help="text, or one event per line.",
)
def logs(run: str, file: str | None, **options: Any) -> None:
    """Print what RUN said: its driver logs, or FILE (a path, a unique ending of one, or a glob).

    \b
    loghaul logs latest -f                       follow, as kubectl logs -f
    loghaul logs latest --tail 20 --rank 3
    loghaul logs latest azureml.log --level warning
    loghaul logs diabetes_17 70_driver_log.txt --stream stderr --raw > stderr.txt

    stdout and stderr of a process are merged line by line in order of arrival; lines of several
    files carry [node/rank]. Records (logs/azureml/*.log) are shown as time|logger|LEVEL|message.
    What is missing is a line of its own: `-- rank 5: bytes 4,096-8,191 never arrived: why --`.

    \b
    ndjson: events with dotted ECS names, one per line; a gap has "event.kind": "gap".
    """
    _check(options)
    with opened() as home:
        show = Show(home, _found(home, run, options["follow"]), file, options)
        if options["follow"]:
            show.follow()
        elif options["raw"]:
            show.raw()
        else:
            show.text()


def _found(home: Home, name: str, follow: bool) -> str:
    """Return the id of the run that is meant; one that is followed may have no file yet."""
    try:
        return find_id(home.reader, name)
    except NotFound:
        beginning = find_beginning(home.settings, name) if follow else None
        if beginning is None:
            raise
        return beginning


def _check(options: dict[str, Any]) -> None:
    if options["raw"]:
        for name in ("level", "query", "timestamps", "follow"):
            if options[name]:
                raise UsageError(f"--raw gives the bytes as they were; leave out --{name}")
        if options["output"] != "text":
            raise UsageError("--raw gives the bytes as they were; leave out -o")
