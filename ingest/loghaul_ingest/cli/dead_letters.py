"""`loghaul dead-letters`: what could not be stored, why, and another try."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from loghaul_ingest.cli import Failure, terminal
from loghaul_ingest.cli.listing import output_option, write_objects
from loghaul_ingest.dead_letters import DirectoryLetters, FallbackLetters, Letter, find
from loghaul_ingest.errors import NotFound
from loghaul_ingest.foreign import FORMATS

T = TypeVar("T")
Opened = DirectoryLetters | FallbackLetters

#: Of the bytes of a letter so many are shown.
SHOWN_BYTES = 4096


def _with_letters(work: Callable[[Opened, Sequence[Letter]], Awaitable[T]]) -> T:
    """Open what there is, list it, and go on with it.

    Where the topic cannot be read there are those of the directory, and it fails at the end.
    """
    from loghaul.config import load
    from loghaul_ingest.dead_letters import open_dead_letters

    async def run() -> tuple[T, str]:
        opened = open_dead_letters(load())
        try:
            letters = await opened.letters()
            unread = getattr(opened, "unread", None)
            missing = f"without the dead letters of the topic: {unread}" if unread else ""
            try:
                return await work(opened, letters), missing
            except NotFound as error:
                raise NotFound(f"{error}, {missing}" if missing else str(error)) from error
        finally:
            await opened.close()

    done, missing = asyncio.run(run())
    if missing:
        raise Failure(f"that is {missing}")
    return done


@click.group("dead-letters", short_help="Look at what could not be stored, and try it again.")
def dead_letters() -> None:
    """What was no log, and what no store would take: kept with its reason and its bytes.

    With LOGHAUL_TRANSPORT=kafka://... that is in the topic `<topic>-dead-letters`, for everyone to
    see, and what that one did not take in the home of the worker; else in this home.

    \b
    loghaul dead-letters list
    loghaul dead-letters show 1
    loghaul dead-letters replay --all
    """


@dead_letters.command("list")
@output_option
def list_letters(output: str) -> None:
    """List the letters, oldest first: number, id, time, bytes, place, reason."""

    async def show(opened: Opened, letters: Sequence[Letter]) -> None:
        if output != "table":
            write_objects((public(number, one) for number, one in enumerate(letters, 1)), output)
        elif not letters:
            terminal.notice(f"no dead letters in {opened}")
        else:
            rows = [_cells(number, letter) for number, letter in enumerate(letters, 1)]
            titles = ("N", "ID", "KEPT", "BYTES", "PLACE", "REASON")
            click.echo(terminal.table(titles, rows, frozenset((0, 3))))

    _with_letters(show)


@dead_letters.command()
@click.argument("number", metavar="N")
@click.option("--raw", is_flag=True, help="Print the bytes as they are, and nothing else.")
@click.option(
    "-o",
    "--output",
    type=click.Choice(("text", "json", "ndjson")),
    default="text",
    show_default=True,
    help="text for people; json, ndjson: one object, the bytes in it as base64.",
)
def show(number: str, raw: bool, output: str) -> None:
    """Show letter N of the list (or by its id): all that is known of it, and its bytes."""

    async def look(opened: Opened, letters: Sequence[Letter]) -> None:
        letter = find(letters, number)
        data = await opened.data(letter)
        if raw:
            terminal.write(data)
        elif output == "text":
            _print(letter, data)
        else:
            shown = public(letters.index(letter) + 1, letter)
            shown |= {"about": letter.about, "data": base64.b64encode(data).decode()}
            terminal.write(terminal.dumps(shown) + b"\n")

    _with_letters(look)


def _print(letter: Letter, data: bytes) -> None:
    about = {"name": letter.name, "kept": terminal.utc(letter.time_us), **letter.about}
    for hidden in ("record", "chunk"):
        about.pop(hidden, None)
    for key, value in about.items():
        said = terminal.dumps(value).decode() if isinstance(value, (dict, list)) else value
        click.echo(f"{terminal.escape(key)}: {terminal.escape(said)}")
    click.echo(f"kept in: {terminal.escape(letter.where)}")
    click.echo("")
    click.echo(terminal.escape(data[:SHOWN_BYTES].decode("utf-8", "backslashreplace")))
    if len(data) > SHOWN_BYTES:
        click.echo(f"... {len(data) - SHOWN_BYTES:,} bytes more; --raw prints all")


@dead_letters.command()
@click.argument("numbers", metavar="N...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All letters there are.")
@click.option("--run", "run", metavar="ID", help="Put them into this run, unless they name one.")
@click.option("--as", "form", type=click.Choice(FORMATS), help="Read them as this format.")
@click.option(
    "--bytes",
    "mended",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Send what is in this file instead of what the one letter holds.",
)
@click.option("--drop", is_flag=True, help="Do not send them: forget them for good.")
def replay(
    numbers: tuple[str, ...],
    everything: bool,
    run: str | None,
    form: str | None,
    mended: Path | None,
    drop: bool,
) -> None:
    """Send letters N... through the pipeline once more, after what was wrong has been mended.

    A letter goes when what it holds is stored. What is refused again is a letter again, with its
    new reason. A number is a place in the list, and changes when one before it goes; an id stays.

    \b
    loghaul dead-letters replay --all
    loghaul dead-letters replay 3 --as plain --run train-7
    loghaul dead-letters show 3 --raw > mended; loghaul dead-letters replay 3 --bytes mended
    loghaul dead-letters replay 1 2 --drop
    """
    from loghaul_ingest.errors import UsageError
    from loghaul_ingest.replaying import Change

    if everything == bool(numbers):
        raise UsageError(
            "say which letters: their numbers in `loghaul dead-letters list`, or --all"
        )
    if mended and (everything or len(numbers) != 1 or drop):
        raise UsageError("--bytes is for one letter that is sent")
    change = Change(run, form, mended.read_bytes() if mended else None)

    async def again(opened: Opened, letters: Sequence[Letter]) -> None:
        chosen = list(letters)
        if not everything:
            found = {one.name: one for one in (find(letters, number) for number in numbers)}
            chosen = list(found.values())
        if drop:
            for letter in chosen:
                await opened.remove(letter, "dropped")
            terminal.notice(f"dropped {_counted(len(chosen))}")
        else:
            await _send(opened, chosen, change)

    _with_letters(again)


async def _send(opened: Opened, letters: Sequence[Letter], change: Any) -> None:
    from loghaul.config import load
    from loghaul_ingest.replaying import replay as send

    done = await send(load(), opened, letters, change)
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
        "id": letter.short,
        "kept": terminal.utc(letter.time_us),
        "bytes": letter.about.get("bytes"),
        "place": letter.place,
        "reason": letter.reason,
        "worker": letter.worker,
        "where": letter.where,
    }


def _cells(number: int, letter: Letter) -> tuple[str, ...]:
    size = letter.about.get("bytes")
    return (
        str(number),
        terminal.escape(letter.short[:8]),
        terminal.when(letter.time_us),
        f"{size:,}" if isinstance(size, int) else "-",
        terminal.escape(letter.place),
        terminal.escape(letter.reason[:300]),
    )


def _counted(count: int) -> str:
    return f"{count} letter" if count == 1 else f"{count} letters"
