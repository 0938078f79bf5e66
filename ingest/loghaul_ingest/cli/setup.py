"""`loghaul setup`: topic and store as they have to be."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from loghaul.config import Secret
from loghaul_ingest.errors import UsageError

if TYPE_CHECKING:
    from loghaul.transports.address import Address
    from loghaul_ingest.topics import Outcome


@click.command()
@click.option("--transport", metavar="DSN", help="Instead of LOGHAUL_TRANSPORT.")
@click.option("--store", metavar="DSN", help="Instead of LOGHAUL_STORE.")
@click.option("--check", is_flag=True, help="Change nothing; say what differs, and exit with 1.")
@click.option("--partitions", type=click.IntRange(1), help="Of the topic; a new one has 12.")
@click.option("--replicas", type=click.IntRange(1), help="Of a new topic; default: 3, or fewer.")
@click.option("--retention-days", type=click.FloatRange(0.05), help="Of the topic; a new one: 7.")
def setup(
    transport: str | None,
    store: str | None,
    check: bool,
    partitions: int | None,
    replicas: int | None,
    retention_days: float | None,
) -> None:
    """Create or mend the topics in Kafka and the templates in OpenSearch.

    Beside the topic there is `<topic>-dead-letters`, for what cannot be stored.

    Run again it finds nothing to do. What it cannot mend, or must not, it names.

    \b
    loghaul setup --transport kafka://h1,h2,h3/loghaul --partitions 24
    loghaul setup --check
    """
    from loghaul.config import load
    from loghaul_ingest.cli import Failure

    settings = load(transport=transport, store=store)
    wrong = []
    if settings.transport:
        plan = (partitions, replicas, retention_days)
        wrong += _transport(settings.transport, plan, check)
    elif partitions or replicas or retention_days is not None:
        raise UsageError("a topic was described, and no transport is set: give --transport")
    wrong += _store(settings.store, check)
    if wrong:
        raise Failure("; ".join(wrong))


def _transport(
    dsn: str, plan: tuple[int | None, int | None, float | None], check: bool
) -> list[str]:
    """Set the topics up; return what is wrong with them still."""
    from loghaul.transports.address import parse
    from loghaul_ingest import topics

    address = parse(dsn)
    letters = topics.letters_of(address)
    outcome = asyncio.run(topics.set_up(address, topics.Plan(*plan), check))
    wrong = _said(address, outcome, check)
    # How many, and for how long, was said of the lines.
    plan_of_letters = topics.Plan(replicas=plan[1])
    outcome = asyncio.run(topics.set_up(letters, plan_of_letters, check, topics.LETTERS))
    return [*wrong, *_said(letters, outcome, check)]


def _said(address: Address, outcome: Outcome, check: bool) -> list[str]:
    """Print what was done; return what is wrong still."""
    for line in (*outcome.done, *outcome.drift):
        click.echo(f"{address}: {line}")
    if not (outcome.done or outcome.drift or outcome.wrong):
        click.echo(f"{address}: ready")
    return [*outcome.wrong, *(outcome.drift if check and not outcome.wrong else [])]


def _store(dsn: str, check: bool) -> list[str]:
    """Set the store up; return what is wrong with it still."""
    shown = Secret(dsn).masked
    scheme, _, rest = dsn.partition(":")
    if not scheme.startswith("opensearch"):
        click.echo(f"{shown}: nothing to set up")
        return []
    from loghaul_ingest.stores.opensearch import setup as opensearch
    from loghaul_ingest.stores.opensearch.address import parse
    from loghaul_ingest.stores.opensearch.client import Client
    from loghaul_ingest.stores.opensearch.names import Names

    address = parse(rest.removeprefix("//"), scheme.endswith("https"))
    client, names = Client(address), Names(address.prefix)
    try:
        made = [] if check else opensearch.make(client, names)
        found = opensearch.check(client, names)
    finally:
        client.close()
    for name in made:
        click.echo(f"{shown}: {name} created")
    for finding in found:
        click.echo(f"{shown}: {finding.text}")
    if not (made or found):
        click.echo(f"{shown}: ready")
    return [finding.text for finding in found if finding.fatal]
