"""Which format a record has: what its headers say, else what its shape is.

loghaul-format    one of FORMATS; it is believed: what does not fit is a dead letter
content-type      application/x-protobuf is OTLP, text/plain a plain line
loghaul-run, loghaul-node, loghaul-experiment
                  who it is of, where the record itself does not say so
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from loghaul.chunk import Record
from loghaul_ingest.foreign import (
    cri,
    docker,
    ecs,
    fluentbit,
    otlp_json,
    otlp_proto,
    plain,
    said,
    vector,
)
from loghaul_ingest.foreign.entry import MAX_ENTRY_BYTES, Entry, ForeignError, Producer
from loghaul_ingest.records import parse

FORMATS = ("plain", "docker", "cri", "fluentbit", "vector", "ecs", "otlp_json", "otlp_proto")

_CONTENT_TYPES = {
    "application/x-protobuf": "otlp_proto",
    "application/protobuf": "otlp_proto",
    "text/plain": "plain",
}


def adapt(record: Record, arrived_us: int) -> list[Entry]:
    """Return what a record says, in its order; a pure function: a repeat says the same bytes.

    arrived_us   for records that do not say when they were written
    Raises ForeignError for what is no log, and for what would be more than MAX_ENTRY_BYTES.
    """
    if not record.value:
        raise ForeignError("record is empty")
    headers = {name: value for name, value in record.headers if isinstance(value, bytes)}
    given = _given(*map(headers.get, ("loghaul-run", "loghaul-node", "loghaul-experiment")))
    try:
        found = _entries(_stated(headers), record.value, given, arrived_us)
    except RecursionError as error:
        raise ForeignError("record is nested too deep") from error
    if sum(len(entry.data) for entry in found) > MAX_ENTRY_BYTES:
        raise ForeignError(f"record says more than {MAX_ENTRY_BYTES:,} bytes")
    return found


@lru_cache(maxsize=1024)
def _given(run: bytes | None, node: bytes | None, experiment: bytes | None) -> Producer:
    texts = [(value or b"").decode("utf-8", "replace") for value in (run, node, experiment)]
    return Producer(
        run=said.run_id(texts[0]), node=said.name(texts[1]), experiment=said.name(texts[2])
    )


def _text(headers: dict[str, bytes], name: str) -> str:
    return headers.get(name, b"").decode("utf-8", "replace")


def _stated(headers: dict[str, bytes]) -> str | None:
    """Return the format that the headers say; ForeignError for one that is unknown."""
    if "loghaul-format" in headers:
        stated = _text(headers, "loghaul-format")
        if stated not in FORMATS:
            raise ForeignError(f"loghaul-format {stated[:80]!r} is none of {', '.join(FORMATS)}")
        return stated
    content_type = _text(headers, "content-type").partition(";")[0].strip().lower()
    return _CONTENT_TYPES.get(content_type)


def _entries(stated: str | None, value: bytes, given: Producer, arrived_us: int) -> list[Entry]:
    found = parse(value) if stated not in ("plain", "cri", "otlp_proto") else None
    name = stated or shape(value, found)
    if name == "plain":
        return plain.entries(value, given)
    if name == "cri":
        return cri.entries(value, given)
    if name == "docker":
        return docker.entries(value, given)
    if name == "otlp_proto":
        return otlp_proto.entries(value, given, arrived_us)
    if found is None:
        raise ForeignError(f"record is no JSON object, as one of {name} has to be")
    adapters = {"otlp_json": otlp_json, "fluentbit": fluentbit, "vector": vector, "ecs": ecs}
    adapter: Any = adapters[name]
    return adapter.entries(found, given, arrived_us)  # type: ignore[no-any-return]


def shape(value: bytes, found: dict[str, Any] | None) -> str:
    """Return the format of a record by its shape. `found`: the JSON object that it is."""
    if found is not None:
        for name, adapter in _SHAPES:
            if adapter.fits(found):
                return name
        return "plain"
    first = value.partition(b"\n")[0]
    if cri.fits(first):
        return "cri"
    if first.startswith(b'{"log":') and docker.fits(parse(first) or {}):
        return "docker"
    if plain.fits(value):
        return "plain"
    if otlp_proto.fits(value):
        return "otlp_proto"
    raise ForeignError("record is neither text nor a format that is known")


#: The surest first.
_SHAPES: tuple[tuple[str, Any], ...] = (
    ("otlp_json", otlp_json),
    ("docker", docker),
    ("vector", vector),
    ("fluentbit", fluentbit),
    ("ecs", ecs),
)
