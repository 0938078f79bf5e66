"""`loghaul run -- CMD`: run a command and keep all that it says."""

from __future__ import annotations

import click


def _tags(_: click.Context, __: click.Parameter, words: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise click.BadParameter(f"{word!r} is not KEY=VALUE")
        found[key] = value
    return found


@click.command(
    context_settings={"ignore_unknown_options": False, "allow_interspersed_args": False},
    options_metavar="[OPTIONS] --",
)
@click.option("--run-id", metavar="ID", help="Join or repeat this run; default: a new one.")
@click.option("--experiment", metavar="E", help="Experiment that the run belongs to.")
@click.option("--name", metavar="N", help="Name of the run for people.")
@click.option("--node", metavar="N", help="Name of this machine in the run; default: host name.")
@click.option("--tag", "tags", metavar="K=V", multiple=True, callback=_tags, help="Tag of the run.")
@click.option("--attempt", metavar="N", type=click.IntRange(1), help="Which attempt this is.")
@click.option("--pty/--no-pty", default=None, help="Force terminals, or pipes, as CMD's outputs.")
@click.option("--buffered", is_flag=True, help="Leave output buffering to Python's defaults.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing, on a terminal neither.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="CMD...")
def run(
    run_id: str | None,
    experiment: str | None,
    name: str | None,
    node: str | None,
    tags: dict[str, str],
    attempt: int | None,
    pty: bool | None,
    buffered: bool,
    quiet: bool,
    command: tuple[str, ...],
) -> None:
    """Run CMD as a run and end with its exit code.

    Its output goes where it always went, unchanged and at once. Everything it prints, and every
    record of the logging module, is kept: see it with `loghaul logs`.

    \b
    loghaul run -- python train.py --alpha 0.3
    loghaul run --experiment ridge --tag team=vision -- torchrun --nproc-per-node 8 train.py
    """
    from loghaul import config
    from loghaul.capture.guard import run as capture
    from loghaul.capture.job import job_of

    settings = config.load(
        strict=False,
        run_id=run_id,
        experiment=experiment,
        run_name=name,
        node=node,
        tags=_with_outer(tags),
        attempt=attempt,
        buffered=buffered or None,
    )
    raise SystemExit(capture(job_of(settings, command, pty=pty, quiet=quiet)))


def _with_outer(tags: dict[str, str]) -> dict[str, str] | None:
    """Add the given tags to those of the environment: `--tag` names one, not all."""
    if not tags:
        return None
    from loghaul import config

    return {**config.load(strict=False).tags, **tags}
