"""`loghaul ingest`: the worker of this home in the foreground."""

from __future__ import annotations

import click

#: A worker in the background ends when nobody captured anything for so long.
IDLE_SECONDS = 30.0

#: `--once` beside a worker that serves waits for so long at most.
ONCE_SECONDS = 600.0


@click.command()
@click.option("--once", is_flag=True, help="Take what is in the spool now, store it, and end.")
@click.option(
    "--background",
    is_flag=True,
    help="End when nothing is captured any more; end at once when another worker serves.",
)
@click.option(
    "--listen",
    metavar="HOST:PORT",
    help="Serve /metrics, /healthz and /readyz there, e.g. 127.0.0.1:9464.",
)
def ingest(once: bool, background: bool, listen: str | None) -> None:
    """Move what was captured from the spool into the store.

    `loghaul run` starts this by itself, and reading commands catch up by themselves: it is needed
    by hand only to watch it, or to take in a spool at a time of one's choice.

    \b
    loghaul ingest            serve until Ctrl-C
    loghaul ingest --once     take what is there and end
    """
    from loghaul.config import load
    from loghaul_ingest import worker
    from loghaul_ingest.cli import Failure

    settings = load()
    try:
        if once:
            worker.once(settings)
        else:
            worker.serve(settings, IDLE_SECONDS if background else None, listen)
    except worker.Busy as error:
        if once:
            # The one that serves takes it in: wait until it has.
            found = worker.catch_up(settings, ONCE_SECONDS)
            if not found:
                raise Failure(found.reason) from error
        elif not background:
            raise Failure(f"{error}; it takes in all that is captured") from error
