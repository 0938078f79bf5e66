"""`loghaul ship`: the shipper of this node."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click


@click.command()
@click.option("--once", is_flag=True, help="Ship what is in the spool now, and end.")
@click.option(
    "--background",
    is_flag=True,
    help="End when nothing is captured any more; end at once when another shipper serves.",
)
@click.option(
    "--listen",
    metavar="HOST:PORT",
    help="Serve /metrics, /healthz and /readyz there, e.g. 127.0.0.1:9465.",
)
def ship(once: bool, background: bool, listen: str | None) -> None:
    """Move what was captured from the spool of this node to Kafka.

    `loghaul run` and `loghaul.init()` start this by themselves where LOGHAUL_TRANSPORT is set. By
    hand it is needed in a sidecar or a DaemonSet, or to send what an ended run left in a spool.

    \b
    loghaul ship              serve until Ctrl-C
    loghaul ship --once       send what is there and end
    """
    from loghaul import shipper
    from loghaul.config import load
    from loghaul_ingest.cli import Failure
    from loghaul_ingest.cli.terminal import notice
    from loghaul_ingest.errors import UsageError
    from loghaul_ingest.shipwatch import watching

    if once and listen:
        raise UsageError("--listen is for a shipper that serves; leave out --once")
    settings = load()
    if not settings.transport:
        raise UsageError(
            "no transport is set, so the spool is read by `loghaul ingest` here; to ship it "
            "elsewhere set LOGHAUL_TRANSPORT=kafka://host1,host2/topic"
        )
    try:
        if once:
            counts = shipper.once(settings)
            notice(f"shipped {counts.records:,} records, {counts.bytes:,} bytes")
        else:
            with watching(listen, settings) as tell:
                shipper.serve(settings, background=background, tell=tell)
    except shipper.Busy as error:
        if not background:
            raise Failure(str(error)) from error


def _told(tell: Callable[..., None], background: bool) -> Callable[..., None]:
    """Also say on stderr, once, why nothing can be shipped, for whoever started this by hand."""
    from loghaul_ingest.cli.terminal import notice

    said = [""]

    def heard(**status: Any) -> None:
        tell(**status)
        failing = status["failing"]
        if failing and failing != said[0] and not background:
            notice(f"{failing}; trying again")
        said[0] = failing

    return heard
