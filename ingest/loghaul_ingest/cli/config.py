"""`loghaul config`: every setting, its value, and where it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from loghaul.config import NAMES, Secret, Settings, load, variable
from loghaul_ingest.cli import terminal


@click.command(short_help="Show the settings and where they come from.")
@click.option(
    "-o",
    "--output",
    type=click.Choice(("text", "json")),
    default="text",
    show_default=True,
    help="text for people; json: {name: {value, origin, variable, help}}.",
)
def config(output: str) -> None:
    """Show every setting, its value, and where it comes from.

    Arguments win over LOGHAUL_* variables, those over loghaul.toml or [tool.loghaul] in the
    working directory or above it, that over the user's own loghaul.toml.

    \b
    LOGHAUL_HOME=/data/logs loghaul config
    """
    settings = load(strict=False)
    found = {name: entry(settings, name) for name in NAMES}
    if output == "json":
        terminal.write(terminal.dumps(found) + b"\n")
    else:
        rows = [
            (name, terminal.escape(_shown(item["value"])), terminal.escape(item["origin"]))
            for name, item in found.items()
        ]
        click.echo(terminal.table(("SETTING", "VALUE", "FROM"), rows, frozenset()))
    for problem in settings.problems:
        terminal.notice(problem)


def entry(settings: Settings, name: str) -> dict[str, Any]:
    """Return one setting as json shows it."""
    value = getattr(settings, name)
    if isinstance(value, Secret):
        value = value.masked
    origin = settings.origins.get(name, "default")
    return {
        "value": str(value) if isinstance(value, Path) else value,
        "origin": variable(name) if origin == "environment" else origin,
        "variable": variable(name),
        "help": NAMES[name].metadata["help"],
    }


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return ",".join(f"{key}={item}" for key, item in value.items()) or "-"
    return "-" if value is None or value == "" else str(value)
