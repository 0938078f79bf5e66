"""What reading commands share: bring the store up to date, open it, find the run that is meant.

Catching up is bounded and never fatal: a home that cannot be written is read as it stands, and a
notice on stderr says so.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import click

from loghaul.config import Settings, load
from loghaul.errors import LoghaulError
from loghaul_ingest.cli.terminal import escape, notice
from loghaul_ingest.errors import IngestError, NotFound, StoreDamaged, UsageError
from loghaul_ingest.stores.base import Reader, RunRow

#: How long a reading command waits for the worker before it shows what is there.
CATCH_UP_SECONDS = 10.0


@dataclass(frozen=True)
class Home:
    """The settings of this user and a reader of their store."""

    settings: Settings
    reader: Reader


@contextmanager
def opened(catch_up: bool = True, timeout_seconds: float = CATCH_UP_SECONDS) -> Iterator[Home]:
    """Open the store for reading after what lies in the spool was taken in."""
    from loghaul_ingest.stores import open_reader

    settings = load()
    if catch_up:
        bring_up_to_date(settings, timeout_seconds)
    reader = open_reader(settings.store)
    try:
        yield Home(settings, reader)
    finally:
        reader.close()


def bring_up_to_date(settings: Settings, timeout_seconds: float) -> None:
    """Take in what lies in the spool, within a bound; say on stderr what remains behind.

    With a transport the spool is the shipper's, and the store is what the workers made of it.
    """
    if settings.transport or not os.path.isdir(settings.spool):
        return
    from loghaul.spool import writers

    if not writers(settings.spool):
        return  # before the worker is imported: that takes as long as most commands
    from loghaul_ingest.unreadable import unreadable
    from loghaul_ingest.worker import catch_up

    try:
        done = catch_up(settings, timeout_seconds)
    except (IngestError, LoghaulError, OSError) as error:
        notice(f"the newest lines may be missing, the spool could not be taken in: {error}")
        return
    if not done:
        notice(f"the newest lines may be missing: {done.reason}; what is stored is shown")
    for problem in unreadable(settings.spool):
        notice(f"lines are missing here: {problem}")


def find_id(reader: Reader, text: str) -> str:
    """Return the id of the run that an id, a unique beginning of one, or `latest` means."""
    with suppress(StoreDamaged):  # a damaged one goes by another name: the list tells
        if text in reader.facts([text]):
            return text
    return find_run(reader, text).run


def find_run(reader: Reader, text: str) -> RunRow:
    """Return the run that an id, a unique beginning of one, or `latest` means."""
    runs = reader.runs()
    if not runs:
        raise NotFound("there are no runs yet; start one with `loghaul run -- CMD`")
    for row in runs:
        if row.run == text:
            return row
    if text == "latest":
        return runs[0]
    found = [row for row in runs if text and row.run.startswith(text)]
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(f"{text!r} is the beginning of several runs: {_listed(found)}; give more")
    raise NotFound(f"no run {text!r}; {_nearest(runs, text)}")


def find_beginning(settings: Settings, text: str) -> str | None:
    """Return the id of a run of which nothing is stored yet, None where there is none.

    `text` is as for `find_run`, which did not find it.
    """
    found = _unstored(settings) if settings.transport else _captured(settings)
    if text == "latest":
        return found[-1] if found else None
    fitting = {run for run in found if text and run.startswith(text)}
    return text if text in found else fitting.pop() if len(fitting) == 1 else None


def _captured(settings: Settings) -> list[str]:
    """Return the runs that have a writer in the spool, the latest last."""
    from loghaul.spool import writers
    from loghaul.spool.facts import read_facts

    found = []
    for directory in writers(settings.spool):
        try:
            found.append(str(read_facts(directory).facts.get("run.id")))
        except LoghaulError:
            continue
    return found


def _unstored(settings: Settings) -> list[str]:
    """Return the runs that the topic tells of, and no worker has stored yet."""
    from loghaul_ingest.feeds import unstored_runs

    try:
        return unstored_runs(settings, CATCH_UP_SECONDS)
    except LoghaulError as error:
        notice(f"runs that have just begun are not known here: {error}")
        return []


def _listed(runs: Sequence[RunRow]) -> str:
    shown = ", ".join(row.run for row in runs[:8])
    return f"{shown} and {len(runs) - 8} more" if len(runs) > 8 else shown


def _nearest(runs: Sequence[RunRow], text: str) -> str:
    near = difflib.get_close_matches(text, [row.run for row in runs[:2000]], n=3, cutoff=0.4)
    inside = [row.run for row in runs if text and text in row.run][:3]
    names = inside or near
    if names:
        return f"did you mean {', '.join(names)}?"
    return f"the latest is {runs[0].run}; `loghaul runs` lists all"


def complete_run(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Offer run ids to a shell; from the store as it is, for a keystroke must not wait."""
    try:
        with opened(catch_up=False) as home:
            found = [row.run for row in home.reader.runs() if row.run.startswith(incomplete)]
    except (IngestError, LoghaulError, OSError):
        return []
    return ["latest", *found[:50]] if "latest".startswith(incomplete) else found[:50]


class RunName(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """RUN: an id, a unique beginning of one, or `latest`."""

    name = "run"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[Any]:
        """Offer the ids of runs."""
        from click.shell_completion import CompletionItem

        return [CompletionItem(escape(run)) for run in complete_run(ctx, param, incomplete)]


run_argument = click.argument("run", type=RunName())
