"""`loghaul search QUERY`: find lines in one run, some, or all; count, spread and group them."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import click

from loghaul_ingest.block import Head
from loghaul_ingest.cli import terminal
from loghaul_ingest.cli.hits import Hits, in_file_order
from loghaul_ingest.cli.home import RunName, find_id, opened
from loghaul_ingest.cli.options import Moment
from loghaul_ingest.errors import StoreDamaged, UsageError
from loghaul_ingest.query import Query, parse
from loghaul_ingest.query.proposal import Proposal
from loghaul_ingest.search import Hit, Page, Request
from loghaul_ingest.search import count as count_hits
from loghaul_ingest.search import facets as facets_of
from loghaul_ingest.search import histogram as histogram_of
from loghaul_ingest.search import search as find
from loghaul_ingest.stores.base import Reader

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_BAR = 40


class Length(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """A length of time: `30s`, `1m`, `2h`, `1d`."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return microseconds."""
        if isinstance(value, int):
            return value
        number, unit = value[:-1], value[-1:].lower()
        try:
            length = float(number) * _UNITS[unit]
        except (ValueError, KeyError):
            self.fail(f"{value!r} is no length of time; try 30s, 1m, 2h or 1d")
        if length * 1e6 < 1 or length > 1e9:
            self.fail(f"{value!r} is no useful length; try 30s, 1m, 2h or 1d")
        return int(length * 1e6)


@click.command(short_help="Find lines in one, some or all runs.")
@click.argument("query")
@click.option("--run", "names", multiple=True, type=RunName(), help="Only this run; repeatable.")
@click.option("-C", "--context", type=click.IntRange(0, 1000), default=0, metavar="N",
              help="Lines before and after each hit.")  # fmt: skip
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, metavar="N",
              help="Most hits that are shown.")  # fmt: skip
@click.option("--since", type=Moment(), help="Only lines since 10m ago, or since a time.")
@click.option("--count", is_flag=True, help="How many lines match, exactly.")
@click.option("--histogram", type=Length(), metavar="1m", help="How many match in each minute.")
@click.option("--facets", metavar="level,file", help="The most frequent values of these fields.")
@click.option("--color", type=click.Choice(("auto", "always", "never")), default="auto",
              show_default=True, help="Colours; auto: on a terminal.")  # fmt: skip
@click.option("-o", "--output", type=click.Choice(("text", "ndjson", "json")), default="text",
              show_default=True, help="text, one event per line, or one object.")  # fmt: skip
def search(query: str, names: tuple[str, ...], **options: Any) -> None:
    """Find lines that match QUERY: newest first over all files, in order within each file.

    \b
    loghaul search 'CUDA out of memory'
    loghaul search 'level:>=error since:1h' --run latest -C 3
    loghaul search '"connection reset" OR /timed? ?out/' --count
    loghaul search 'loss' --histogram 1m --facets level,file

    \b
    words            all of them, in any order      field:value  level, logger, file, node, rank ...
    "a phrase"       side by side                   level:>=warning   since:10m   rank:[0 TO 7]
    -word            not this one                   pre* *sub* /regex/    a OR b    ( )
    A query that begins with - needs -- before it.

    \b
    ndjson: events with dotted ECS names; json: {hits, complete, searched_back_to}. With -C each
    event has "before" and "after".
    """
    parsed = parse(query, int(time.time() * 1e6))
    for hint in parsed.hints:
        terminal.notice(hint)
    counting = [name for name in ("count", "histogram", "facets") if options[name]]
    if options["output"] == "ndjson" and counting:
        raise UsageError(f"--{counting[0]} gives numbers, not events; use -o json")
    with opened() as home:
        runs = [find_id(home.reader, name) for name in names] or None
        reader = _Tolerant(home.reader)
        if counting:
            _numbers(reader, parsed, runs, options)
        else:
            _hits(reader, parsed, runs, options)
    if reader.damage is not None:
        raise reader.damage


class _Tolerant:
    """A reader that keeps what it says of damaged runs for the end, behind what was found."""

    def __init__(self, reader: Reader) -> None:
        self.damage: StoreDamaged | None = None
        self._reader = reader
        self.runs, self.streams, self.facts = reader.runs, reader.streams, reader.facts
        self.heads, self.load = reader.heads, reader.load
        self.tally, self.sizes, self.close = reader.tally, reader.sizes, reader.close

    def candidates(
        self, proposal: Proposal, runs: Iterable[str] | None = None, before: int | None = None
    ) -> Iterator[Head]:
        """See `base.Reader`; what is damaged is not raised, but noted."""
        try:
            yield from self._reader.candidates(proposal, runs, before)
        except StoreDamaged as error:
            self.damage = error


def _hits(
    reader: Reader, query: Query, runs: Sequence[str] | None, options: Mapping[str, Any]
) -> None:
    page = find(
        reader,
        Request(
            query,
            runs,
            since=options["since"],
            limit=options["limit"],
            context=options["context"] + 1 if options["context"] else 0,
        ),
    )
    hits = in_file_order(page.hits)
    if options["output"] == "json":
        body = {
            "hits": [_public(hit, options["context"]) for hit in hits],
            "complete": page.complete,
            "searched_back_to": _time(page.searched_back_to),
        }
        terminal.write(terminal.dumps(body) + b"\n")
    elif options["output"] == "ndjson":
        for hit in hits:
            terminal.write(terminal.dumps(_public(hit, options["context"])) + b"\n")
    else:
        Hits(query, options["context"], options["color"]).print(hits)
    _say_how_far(page)


def _public(hit: Hit, context: int) -> Mapping[str, Any]:
    if not context:
        return hit.event
    return {
        **hit.event,
        "before": list(hit.before[-context:]),
        "after": list(hit.after[:context]),
    }


def _time(time_us: int | None) -> str | None:
    return terminal.utc(time_us) if time_us is not None else None


def _say_how_far(page: Page) -> None:
    if not page.hits:
        terminal.notice("no line matches")
    elif page.cursor is not None and page.searched_back_to is not None:
        terminal.notice(
            f"the newest {len(page.hits):,} are shown, searched back to "
            f"{terminal.when(page.searched_back_to)}; --limit N shows more, --count counts all"
        )


def _line(text: str) -> None:
    terminal.write(text.encode("utf-8", "replace") + b"\n")


def _numbers(
    reader: Reader, query: Query, runs: Sequence[str] | None, options: Mapping[str, Any]
) -> None:
    """Print a count, a histogram and facets, as far as they are asked for."""
    body: dict[str, Any] = {}
    since = options["since"]
    if options["count"]:
        body["count"] = count_hits(reader, query, runs, since).total
    if options["histogram"]:
        found = histogram_of(reader, query, options["histogram"], runs, since)
        body["histogram"] = [
            {"time": terminal.utc(start), "count": number} for start, number in found.counts.items()
        ]
    if options["facets"]:
        names = [name.strip() for name in options["facets"].split(",") if name.strip()]
        values = facets_of(reader, query, names, runs, since).values
        body["facets"] = {
            name: [{"value": value, "count": number} for value, number in pairs]
            for name, pairs in values.items()
        }
    if options["output"] == "json":
        terminal.write(terminal.dumps(body) + b"\n")
        return
    for part in _shown(body):
        _line(part)


def _shown(body: Mapping[str, Any]) -> list[str]:
    found = []
    if "count" in body:
        found.append(str(body["count"]))
    if "histogram" in body:
        most = max((bucket["count"] for bucket in body["histogram"]), default=1)
        width = max((len(f"{bucket['count']:,}") for bucket in body["histogram"]), default=1)
        room = max(1, min(_BAR, shutil.get_terminal_size((200, 24)).columns - width - 25))
        for bucket in body["histogram"]:
            bar = "█" * max(1, bucket["count"] * room // most)
            found.append(f"{bucket['time'][:19]}Z  {bucket['count']:>{width},}  {bar}")
    for name, values in body.get("facets", {}).items():
        found.append(f"{terminal.escape(name)}:")
        width = max((len(f"{value['count']:,}") for value in values), default=1)
        for value in values:
            shown = "(none)" if value["value"] is None else terminal.escape(value["value"])
            found.append(f"  {value['count']:>{width},}  {shown}")
    return found
