"""`loghaul tail PATH...`: log files of any program, followed into a run."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import click

#: As in `loghaul_ingest.tailing`, which is imported when the command runs.
FORMATS = ("plain", "auto", "docker", "cri")


@click.command(short_help="Follow log files into a run.")
@click.argument(
    "paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option("--run", "--run-id", "run_id", metavar="ID", help="The run; needed unless it is set.")
@click.option("--experiment", metavar="E", help="Experiment that the run belongs to.")
@click.option("--node", metavar="N", help="Name of this machine in the run; default: host name.")
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    default="plain",
    show_default=True,
    help="plain: the bytes as they are; docker, cri: what the container wrote; auto: by shape.",
)
@click.option("--once", is_flag=True, help="Take what is there now, and end.")
def tail(
    paths: tuple[Path, ...],
    run_id: str | None,
    experiment: str | None,
    node: str | None,
    form: str,
    once: bool,
) -> None:
    """Follow log files into a run until Ctrl-C, through rotation, byte by byte.

    A file that is not there yet is waited for. Started again with the same run it goes on where it
    was, also after a kill -9: nothing is repeated, nothing left out.

    \b
    loghaul tail /var/log/nccl.log --run mnist_1763
    loghaul tail 0.log --format cri --run train-7
    """
    from loghaul import background
    from loghaul.config import load
    from loghaul_ingest.cli.terminal import notice
    from loghaul_ingest.errors import NotFound, UsageError
    from loghaul_ingest.tailing import Session

    settings = load(run_id=run_id, experiment=experiment, node=node)
    if not settings.run_id:
        raise UsageError("say which run: --run ID (or LOGHAUL_RUN_ID)")
    session = Session(settings, paths, form, notice)
    stop = _stopper(session.stop)
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    background.start(settings)
    if once:
        if missing := session.once():
            names = ", ".join(map(str, missing))
            raise NotFound(f"nothing to read at {names}; what was read of the others is kept")
    else:
        session.run()


def _stopper(stop: Callable[[], None]) -> Callable[[int, object], None]:
    """Return a handler: the first signal ends in order, the second at once.

    A full spool may hold us: then the next start goes on where we were, as after a kill.
    """

    def handle(number: int, frame: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        stop()

    return handle
