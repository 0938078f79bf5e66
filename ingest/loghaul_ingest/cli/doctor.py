"""`loghaul doctor`: environment, spool, store, versions; what is wrong and how to mend it."""

from __future__ import annotations

import click

from loghaul_ingest.cli import terminal

_SIGNS = {"ok": ("ok   ", "green"), "warning": ("warn ", "yellow"), "wrong": ("WRONG", "red")}


@click.command(short_help="Say what is wrong and how to mend it.")
@click.option(
    "-o",
    "--output",
    type=click.Choice(("text", "json")),
    default="text",
    show_default=True,
    help="text for people; json: [{subject, state, text, advice}].",
)
@click.option("--probe", is_flag=True, help="Send a run through the whole chain, then delete it.")
@click.pass_context
def doctor(ctx: click.Context, output: str, probe: bool) -> None:
    """Look at the environment, the spool, the worker and the store; change nothing.

    \b
    loghaul doctor
    loghaul doctor --probe     write a line, ship it, store it, find it, delete it; with times

    Each line says ok, warn, or WRONG and then what to do. Exit code 1 when something is wrong.
    """
    from loghaul.config import load
    from loghaul_ingest.doctor import examine

    found = []
    colour = terminal.wants_colour()
    for finding in examine(load(strict=False), probe):
        found.append(finding)
        if output == "json":
            continue
        sign, shade = _SIGNS[finding.state]
        sign = click.style(sign, fg=shade) if colour else sign
        click.echo(f"{sign}  {finding.subject}: {terminal.escape(finding.text)}")
        if finding.advice:
            click.echo(f"       -> {terminal.escape(finding.advice)}")
    if output == "json":
        terminal.write(terminal.dumps([finding._asdict() for finding in found]) + b"\n")
    if any(finding.state == "wrong" for finding in found):
        ctx.exit(1)
