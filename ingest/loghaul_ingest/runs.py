"""A run as its streams tell it: attempts, status, times, totals. Computed when read, never stored.

Nobody owns a run: several supervisors on several nodes write to it, each may vanish, and a later
attempt may continue it days after. So everything about a run is a fold over its streams.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from loghaul_ingest.block import Facts
from loghaul_ingest.stores.base import RunRow, StreamRow

#: Whose end is the end of the run.
_LEADS = frozenset({"supervisor", "session"})

#: Of several finished nodes the worst decides.
_WORST_FIRST = ("failed", "lost", "canceled", "completed")

#: A run of which nothing was heard for so long is given up: who would have told of its end is gone
#: (a node that vanished), or never tells (a collector of others' lines). A week is longer than any
#: silence of a run that works; should it speak again, it is running again.
SILENT_US = 7 * 86_400_000_000

#: Levels that count as errors in the list of runs.
ERROR_LEVELS = ("error", "critical", "fatal")


class _Life(NamedTuple):
    """A writer: from its start to its last end; `ended` is None while a stream of it is open."""

    writer: str
    started: int
    ended: int | None
    given: int | None
    leads: bool
    status: str
    collected: bool = False


def attempts(streams: Sequence[StreamRow]) -> dict[str, int]:
    """Return the attempt of each writer, from 1: `attempts_of` rows."""
    return attempts_of([row.facts for row in streams])


def attempts_of(streams: Sequence[Facts]) -> dict[str, int]:
    """Return the attempt of each writer of a run, from 1, by the facts of all its streams.

    One that was given ("run.attempt") stands, for a child of that writer too. The others are
    numbered by time: writers whose lives overlap share an attempt; one that starts when all before
    it have ended begins the next. What a collector of others brought never says that it ended: it
    belongs to the attempt in which it began.
    """
    every = sorted(_lives(streams).values(), key=lambda life: (life.started, not life.leads))
    lives = [life for life in every if not life.collected]
    numbers: dict[str, int] = {}
    current, alive_until = 0, 0
    parents = _parents(streams)
    for life in lives:
        given = life.given
        if given is None:
            given = _inherited(life.writer, parents, numbers)
        if given is not None:
            current = max(current, given)
            numbers[life.writer] = given
        else:
            if not current or life.started > alive_until:
                current += 1
            numbers[life.writer] = current
        alive_until = max(alive_until, _FOREVER if life.ended is None else life.ended)
    starts = [life.started for life in lives]
    for life in (life for life in every if life.collected):
        before = max(0, bisect_right(starts, life.started) - 1)
        numbers[life.writer] = numbers[lives[before].writer] if lives else 1
    return numbers


def summarise(streams: Sequence[StreamRow], now_us: int | None = None) -> RunRow:
    """Return the row of a run. `streams` are all of its, at least one; ValueError otherwise.

    now_us   microseconds since the epoch; the clock's where it is None
    """
    if not streams:
        raise ValueError("a run has at least one stream")
    facts = [row.facts for row in streams]
    lives, numbers = _lives(facts), attempts_of(facts)
    latest = max(numbers.values())
    last = [life for life in lives.values() if numbers[life.writer] == latest]
    leading = [life for life in last if life.leads]
    leading = leading or [life for life in last if not life.collected] or last
    status = _status(leading)
    ended = None if status == "running" else max(life.ended or 0 for life in leading)
    if status == "running":
        heard = max(row.time_max or row.facts.started for row in streams)
        if (time.time_ns() // 1000 if now_us is None else now_us) - heard > SILENT_US:
            status, ended = "lost", heard
    common = [row.facts.common for row in streams]
    return RunRow(
        run=streams[0].facts.stream.run,
        experiment=_first(common, "experiment.name", "default"),
        name=_first(common, "run.name", ""),
        tags=_tags(common),
        status=status,
        started=min(life.started for life in lives.values()),
        ended=ended,
        nodes=len({facts["run.node"] for facts in common if "run.node" in facts}) or 1,
        attempts=latest,
        lines=sum(row.lines for row in streams),
        errors=sum(row.levels.get(level, 0) for row in streams for level in ERROR_LEVELS),
    )


def is_awaited(streams: Sequence[StreamRow]) -> bool:
    """Return whether somebody still writes to a run who will tell of its end; a collector of
    others' records never does."""
    lives = _lives(row.facts for row in streams)
    return any(life.ended is None and not life.collected for life in lives.values())


_FOREVER = 1 << 62


def _lives(streams: Iterable[Facts]) -> dict[str, _Life]:
    grouped: dict[str, list[Facts]] = {}
    for facts in streams:
        grouped.setdefault(facts.stream.writer, []).append(facts)
    return {writer: _life(writer, facts) for writer, facts in grouped.items()}


def _life(writer: str, facts: Sequence[Facts]) -> _Life:
    ends = [one.end for one in facts if one.end is not None]
    # A stream that never said anything about its end keeps its writer alive: that is what "open"
    # means, and a vanished writer is given its ends by whoever finds its lock free.
    whole = len(ends) == len(facts)
    given = [one.common["run.attempt"] for one in facts if "run.attempt" in one.common]
    return _Life(
        writer,
        min(one.started for one in facts),
        max(end.time_us for end in ends) if whole else None,
        int(given[0]) if given else None,
        any(one.common.get("role") in _LEADS for one in facts),
        _outcome(ends[-1].cause, ends[-1].detail) if whole else "running",
        all(one.common.get("role") == "collected" for one in facts),
    )


def _outcome(cause: str, detail: Mapping[str, Any]) -> str:
    """Return how a writer ended: what it says itself, else what its cause tells."""
    said = detail.get("status")
    if said in _WORST_FIRST:
        return str(said)
    if cause == "lost":
        return "lost"
    failed = cause == "signal" or detail.get("exit_code") not in (None, 0) or "signal" in detail
    return "failed" if failed or "error.type" in detail else "completed"


def _status(lives: Sequence[_Life]) -> str:
    found = {life.status for life in lives}
    if "running" in found:
        return "running"
    return next((status for status in _WORST_FIRST if status in found), "completed")


def _parents(streams: Iterable[Facts]) -> dict[str, str]:
    return {
        facts.stream.writer: str(facts.common["parent"])
        for facts in streams
        if facts.common.get("parent")
    }


def _inherited(writer: str, parents: Mapping[str, str], numbers: Mapping[str, int]) -> int | None:
    """Return the attempt of the nearest ancestor that has one; loops in hostile facts end."""
    seen = {writer}
    while (writer := parents.get(writer, "")) and writer not in seen:
        if writer in numbers:
            return numbers[writer]
        seen.add(writer)
    return None


def _first(common: Iterable[Mapping[str, Any]], field: str, default: str) -> str:
    return next((str(facts[field]) for facts in common if facts.get(field)), default)


def _tags(common: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    tags: dict[str, str] = {}
    for facts in common:
        labels = facts.get("labels")
        if isinstance(labels, Mapping):
            tags.update((str(name), str(value)) for name, value in labels.items())
    return tags
