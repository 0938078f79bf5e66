"""`loghaul dead-letters`: what could not be stored, why, and another try."""

from __future__ import annotations

from typing import Any

import click

from loghaul_ingest.cli import terminal
from loghaul_ingest.dead_letters import DeadLetters, Letter
from loghaul_ingest.foreign import FORMATS

#: Of the bytes of a letter so many are shown.
SHOWN_BYTES = 4096


def _letters() -> DeadLetters:
    from loghaul.config import load

    return DeadLetters(load().home / "dead-letters")


@click.group("dead-letters", short_help="Look at what could not be stored, and try it again.")
def dead_letters() -> None:
    """What was no log, and what no store would take: kept with its reason and its bytes.

    \b
    loghaul dead-letters list
    loghaul dead-letters show 1
    loghaul dead-letters replay --all
    """


@dead_letters.command("list")
@click.option(
    "-o",
    "--output",
    type=click.Choice(("table", "json", "ndjson")),
    default="table",
    show_default=True,
    help="table for people; json: a list; ndjson: one object per line.",
)
def list_letters(output: str) -> None:
    """List the letters, oldest first: number, time, bytes, place, reason."""
    letters = _letters().letters()
    if output == "json":
        shown = (terminal.dumps(public(number, one)) for number, one in enumerate(letters, 1))
        terminal.write(b"[%s]\n" % b",\n".join(shown))
    elif output == "ndjson":
        for number, one in enumerate(letters, 1):
            terminal.write(terminal.dumps(public(number, one)) + b"\n")
    elif not letters:
        terminal.notice("no dead letters")
    else:
        rows = [_cells(number, letter) for number, letter in enumerate(letters, 1)]
        titles = ("N", "KEPT", "BYTES", "PLACE", "REASON")
        click.echo(terminal.table(titles, rows, frozenset((0, 2))))


@dead_letters.command()
@click.argument("number", metavar="N")
@click.option("--raw", is_flag=True, help="Print the bytes as they are, and nothing else.")
def show(number: str, raw: bool) -> None:
    """Show letter N of the list (or by its name): all that is known of it, and its bytes."""
    letter = _letters().find(number)
    data = letter.data()
    if raw:
        terminal.write(data)
        return
    about = {"name": letter.name, "kept": terminal.utc(letter.time_us), **letter.about}
    for hidden in ("record", "chunk"):
        about.pop(hidden, None)
    for key, value in about.items():
        said = terminal.dumps(value).decode() if isinstance(value, (dict, list)) else value
        click.echo(f"{terminal.escape(key)}: {terminal.escape(said)}")
    click.echo(f"file: {terminal.escape(letter.path.with_suffix('.bin'))}")
    click.echo("")
    click.echo(terminal.escape(data[:SHOWN_BYTES].decode("utf-8", "backslashreplace")))
    if len(data) > SHOWN_BYTES:
        click.echo(f"... {len(data) - SHOWN_BYTES:,} bytes more; --raw prints all")


@dead_letters.command()
@click.argument("numbers", metavar="N...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All letters there are.")
@click.option("--run", "run", metavar="ID", help="Put them into this run, unless they name one.")
@click.option("--as", "form", type=click.Choice(FORMATS), help="Read them as this format.")
@click.option("--drop", is_flag=True, help="Do not send them: forget them for good.")
def replay(
    numbers: tuple[str, ...], everything: bool, run: str | None, form: str | None, drop: bool
) -> None:
    """Send letters N... through the pipeline once more, after what was wrong has been mended.

    A letter goes when what it holds is stored. The bytes are read as they now stand in its file,
    which may have been edited. What is refused again is a letter again, with its new reason.

    \b
    loghaul dead-letters replay --all
    loghaul dead-letters replay 3 --as plain --run train-7
    loghaul dead-letters replay 1 2 --drop
    """
    from loghaul.config import load
    from loghaul_ingest.cli import Failure
    from loghaul_ingest.errors import UsageError
    from loghaul_ingest.replaying import replay as send

    if everything == bool(numbers):
        raise UsageError(
            "say which letters: their numbers in `loghaul dead-letters list`, or --all"
        )
    kept = _letters()
    letters = kept.letters() if everything else [kept.find(number) for number in numbers]
    if drop:
        for letter in letters:
            kept.remove(letter)
        terminal.notice(f"dropped {_counted(len(letters))}")
        return
    done = send(load(), letters, run=run, form=form)
    terminal.notice(f"stored {_counted(done.sent - done.again)}")
    if done.failing:
        raise Failure(f"{_counted(len(letters) - done.sent)} stay as they are: {done.failing}")
    if done.again:
        raise Failure(f"{_counted(done.again)} refused again; `loghaul dead-letters list` says why")


def public(number: int, letter: Letter) -> dict[str, Any]:
    """Return a letter as json and ndjson show it."""
    return {
        "number": number,
        "name": letter.name,
        "kept": terminal.utc(letter.time_us),
        "bytes": letter.about.get("bytes"),
        "place": letter.place,
        "reason": letter.reason,
    }


def _cells(number: int, letter: Letter) -> tuple[str, ...]:
    size = letter.about.get("bytes")
    return (
        str(number),
        terminal.when(letter.time_us),
        f"{size:,}" if isinstance(size, int) else "-",
        terminal.escape(letter.place),
        terminal.escape(letter.reason[:300]),
    )


def _counted(count: int) -> str:
    return f"{count} letter" if count == 1 else f"{count} letters"
