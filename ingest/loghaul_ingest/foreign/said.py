"""Values of foreign records: times in every spelling, names of runs, text that UTF-8 can write."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

from loghaul_ingest.times import micros

#: A run's id where a producer says it, in the order of their weight. The second is what collectors
#: make of the first that replace dots.
RUN_KEYS = ("loghaul.dev/run-id", "loghaul_dev/run-id", "loghaul.run.id", "run.id")
EXPERIMENT_KEYS = ("loghaul.dev/experiment", "loghaul.experiment", "experiment.name")
RANK_KEYS = ("loghaul.dev/rank", "loghaul.rank", "run.rank")

#: An id is a name in paths and commands; a longer one is cut, and stays unique.
MAX_RUN_LENGTH = 150

_NAIVE = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?", re.ASCII)
#: Numbers are seconds, unless that would be after the year 5000: then they are finer.
_LATEST_SECONDS = 95_617_584_000


def moment(value: Any) -> int | None:
    """Return the microseconds of a time: RFC 3339, without a zone UTC, or a number since the epoch.

    None for what is none, and for times before 1970.
    """
    if isinstance(value, str):
        if _NAIVE.fullmatch(value):
            value += "Z"
        found = micros(value)
        if found is None and value.isdecimal() and len(value) < 24:
            return moment(int(value))
        return found if found is not None and found > 0 else None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    if value <= 0:
        return None
    for scale in (1_000_000, 1_000, 1):
        if value * scale < _LATEST_SECONDS * 1_000_000:
            return round(value * scale)
    nanoseconds = int(value) // 1000
    return nanoseconds if nanoseconds < _LATEST_SECONDS * 1_000_000 else None


def run_id(value: Any) -> str | None:
    """Return an id that a producer gave, fit for names of files; None for what is none."""
    if not isinstance(value, str) or not value.strip():
        return None
    text = "".join(c if c.isprintable() else "_" for c in value.strip())
    if len(text) <= MAX_RUN_LENGTH:
        return text
    digest = blake2b(value.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
    return f"{text[: MAX_RUN_LENGTH - 9]}-{digest}"


def first_run(*places: Any) -> str | None:
    """Return the run id that stands in the first of some mappings that has one."""
    return next((found for found in map(run_id, _each(RUN_KEYS, places)) if found), None)


def first_text(keys: Iterable[str], *places: Any) -> str | None:
    """Return the first text that stands under one of the keys in some mappings."""
    return next((found for found in map(name, _each(tuple(keys), places)) if found), None)


def first_rank(*places: Any) -> int | None:
    """Return the global rank that some mappings say."""
    for value in _each(RANK_KEYS, places):
        if str(value).isdecimal() and len(str(value)) < 9:
            return int(value)
    return None


def _each(keys: tuple[str, ...], places: Iterable[Any]) -> Iterable[Any]:
    for place in places:
        if isinstance(place, Mapping):
            yield from (place[key] for key in keys if key in place)


def name(value: Any) -> str | None:
    """Return a name that is said, None for what is none."""
    return value[:1000] if isinstance(value, str) and value else None


def encoded(text: str) -> bytes:
    """Return text as UTF-8; halves of surrogate pairs are written as they are."""
    return text.encode("utf-8", "surrogatepass")


def as_mapping(value: Any) -> Mapping[str, Any]:
    """Return a JSON object; anything else is an empty one."""
    return value if isinstance(value, dict) else {}


def now_us() -> int:
    """Return the time of this machine, microseconds since the epoch."""
    return int(datetime.now(UTC).timestamp() * 1e6)
