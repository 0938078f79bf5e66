"""`loghaul ingest`: the worker of this home, or of a topic, in the foreground."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from loghaul.config import Settings

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
@click.option(
    "--workers",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="So many processes share the topic.",
)
def ingest(once: bool, background: bool, listen: str | None, workers: int) -> None:
    """Move what was captured from the spool, or from Kafka, into the store.

    `loghaul run` starts this by itself, and reading commands catch up by themselves: it is needed
    by hand only to watch it, or to take in a spool at a time of one's choice.

    \b
    loghaul ingest            serve until Ctrl-C
    loghaul ingest --once     take what is there and end

    With LOGHAUL_TRANSPORT=kafka://... it reads the topic instead of the spool, as one of the group
    LOGHAUL_GROUP; then nobody starts it but you, on as many machines as you like.
    """
    from loghaul.config import load
    from loghaul_ingest import worker
    from loghaul_ingest.cli import Failure
    from loghaul_ingest.errors import UsageError

    settings = load()
    if once and listen:
        raise UsageError("--listen is for a worker that serves; leave out --once")
    if settings.transport:
        raise SystemExit(_ingest_topic(settings, once, listen, workers))
    if workers > 1:
        raise UsageError("a spool is read by one worker; several share a topic (LOGHAUL_TRANSPORT)")
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
    if once:
        from loghaul_ingest.unreadable import unreadable

        problems = unreadable(settings.spool)
        if problems:
            raise Failure(f"not all could be taken in: {'; '.join(problems)}")


def _ingest_topic(settings: Settings, once: bool, listen: str | None, workers: int) -> int:
    """Read Kafka; return the exit code."""
    from loghaul_ingest import group
    from loghaul_ingest.cli.terminal import notice
    from loghaul_ingest.errors import UsageError

    if workers > 1:
        if once or listen or settings.group_instance:
            raise UsageError(
                "--workers goes with neither --once, --listen nor LOGHAUL_GROUP_INSTANCE"
            )
        return group.serve_many(settings, workers)
    if once:
        group.once(settings)
    else:
        group.serve(settings, listen, notice)
    return 0
