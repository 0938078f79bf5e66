"""What a record of others says: entries, each some bytes of one stream of one producer.

Text is text: the output of a container becomes a text stream with the bytes that the container
wrote, as far as its collector kept them, so that it is read, searched and downloaded like the
output of any run. What has more to say than a line (a level, attributes, a trace) becomes a record
of an events stream.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Any, NamedTuple

from loghaul.chunk import StreamKey
from loghaul_ingest.errors import IngestError

#: What one record may become in all; a larger one is a dead letter.
MAX_ENTRY_BYTES = 2**23 - 1


class ForeignError(IngestError):
    """A record that no adapter can read; it will not get better."""

    permanent = True


@dataclass(frozen=True, slots=True)
class Producer:
    """Who wrote a record, as far as the record says it."""

    run: str | None = None
    experiment: str | None = None
    node: str | None = None
    host: str | None = None
    rank: int | None = None
    namespace: str | None = None
    pod: str | None = None
    container: str | None = None
    container_id: str | None = None
    service: str | None = None
    file: str | None = None


class Entry(NamedTuple):
    """Bytes of one stream: a line of text, a part of one, or a record with its newline.

    name      of the stream: "stdout", "stderr", "output" (which of them is not known), "records"
    time_us   microseconds since the epoch; None: it does not say
    """

    producer: Producer
    name: str
    kind: str
    data: bytes
    time_us: int | None


class Target(NamedTuple):
    """The stream of an entry, and the fields that are the same for all of it."""

    key: StreamKey
    common: Mapping[str, Any]


@lru_cache(maxsize=8192)
def target(origin: str, producer: Producer, name: str) -> Target:
    """Return the stream of what a producer says under a name, in one partition of a source.

    origin   name of the partition: another partition is another stream, because only within one
             is there an order; what stands behind a "#" tells it apart and shows nowhere
    """
    who, shown = _who(producer), origin.partition("#")[0]
    run = producer.run or "/".join(("unassigned", *(who or (safe(shown),))))
    identity = repr((origin, producer)).encode("utf-8", "backslashreplace")
    key = StreamKey(run, blake2b(identity, digest_size=16).hexdigest(), name)
    node = producer.node or producer.host
    labels = {"namespace": producer.namespace, "pod": producer.pod, "service": producer.service}
    common = {
        "run.id": run,
        "run.node": node,
        "run.rank": producer.rank,
        "experiment.name": producer.experiment,
        "host.name": producer.host or producer.node,
        "container.id": producer.container_id,
        "container.name": producer.container,
        "labels": {name: value for name, value in labels.items() if value} or None,
        "log.file.path": _path(shown, producer, name),
        "log.iostream": name if name in ("stdout", "stderr") else None,
        "role": "collected",
    }
    return Target(key, {name: value for name, value in common.items() if value is not None})


def _who(producer: Producer) -> tuple[str, ...]:
    """Return (namespace, pod) of the synthetic run, or the nearest there is; () without any."""
    name = producer.pod or producer.container or producer.container_id or producer.service
    name = name or producer.host or producer.node
    return (safe(producer.namespace or "default"), safe(name)) if name else ()


def _path(origin: str, producer: Producer, name: str) -> str:
    suffix = ".jsonl" if name == "records" else ".txt"
    container = producer.container or producer.container_id
    if producer.pod or container:
        place = [producer.pod, container]
        return "/".join(["containers", *(safe(part) for part in place if part)]) + suffix
    if producer.file:
        return "/".join(["files", *(safe(part) for part in producer.file.split("/") if part)])
    if producer.service:
        return f"services/{safe(producer.service)}{suffix}"
    return f"topics/{safe(origin)}{suffix}"


def safe(text: str) -> str:
    """Return a name from outside as one part of a path that every file system takes."""
    text = "".join(c if c.isprintable() and c not in "/\\" else "_" for c in text)
    return "_" * len(text) if not text.strip(".") else text[:120]
