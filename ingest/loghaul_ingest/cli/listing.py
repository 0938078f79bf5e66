"""Lists that a command gives: `-o table` for people, `json` and `ndjson` for programs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click

from loghaul_ingest.cli import terminal

#: The option of a command that gives a list, as `output`.
output_option = click.option(
    "-o",
    "--output",
    type=click.Choice(("table", "json", "ndjson")),
    default="table",
    show_default=True,
    help="table for people; json: a list; ndjson: one object per line.",
)


def write_objects(objects: Iterable[Any], output: str) -> None:
    """Write objects as "json" or "ndjson"."""
    lines = [terminal.dumps(one) for one in objects]
    if output == "json":
        terminal.write(b"[%s]\n" % b",\n".join(lines))
    else:
        terminal.write(b"".join(line + b"\n" for line in lines))
