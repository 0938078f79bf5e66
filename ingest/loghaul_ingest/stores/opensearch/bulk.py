"""Bulk requests: sent in parts, halved when too large, every item of the reply classified.

What an item's error means is told by its type, not by its status: a conflict is a block that
stood there already, a refused document will always be refused, everything else may pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from loghaul_ingest.errors import StoreError
from loghaul_ingest.stores.opensearch.client import Client
from loghaul_ingest.stores.opensearch.failures import (
    BLOCKED,
    CONFLICT,
    NO_INDEX,
    Failed,
    reason,
    refused,
)

#: A part is sent when it has so many bytes.
PART_BYTES = 4 * 2**20
_FILTER = "took,errors,items.*.status,items.*.error"


class Item(NamedTuple):
    """One action with its document, `raw`; `home` is the index, `tag` the caller's."""

    tag: Any
    home: str
    raw: bytes


class Refused(StoreError):
    """Documents that will never be taken."""

    permanent = True


@dataclass
class Outcome:
    """What became of items.

    stood     tags of items whose document was there already (create), or had changed (if_seq_no)
    missing   indices that are not there
    blocked   indices that take no writes just now; why stands in `failed`
    refused   why documents will never be taken
    failed    why others were not written this time
    """

    done: list[Any] = field(default_factory=list)
    stood: list[Any] = field(default_factory=list)
    missing: set[str] = field(default_factory=set)
    blocked: set[str] = field(default_factory=set)
    refused: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def join(self, other: Outcome) -> None:
        """Add what became of further items."""
        self.done += other.done
        self.stood += other.stood
        self.missing |= other.missing
        self.blocked |= other.blocked
        self.refused += other.refused
        self.failed += other.failed

    def check(self) -> None:
        """Raise for what was not written: what may pass first, for it will be tried again."""
        if self.failed or self.missing:
            why = self.failed[0] if self.failed else f"no index {sorted(self.missing)[0]}"
            count = len(self.failed) + len(self.missing)
            raise StoreError(f"OpenSearch did not write {count} documents: {why}")
        if self.refused:
            raise Refused(
                f"OpenSearch refuses {len(self.refused)} documents for good: {self.refused[0]}"
            )


def parts(items: Iterable[Item], part_bytes: int = PART_BYTES) -> Iterator[list[Item]]:
    """Yield items in parts of about so many bytes."""
    part: list[Item] = []
    size = 0
    for item in items:
        if part and size + len(item.raw) > part_bytes:
            yield part
            part, size = [], 0
        part.append(item)
        size += len(item.raw)
    if part:
        yield part


def send(client: Client, items: Sequence[Item], **parameters: Any) -> Outcome:
    """Send items in one request, in halves where it is too large; never raises for an item."""
    try:
        reply = client.call(
            "POST",
            "/_bulk",
            b"".join(item.raw for item in items),
            filter_path=_FILTER,
            timeout=f"{max(1, int(client.address.timeout_seconds * 2 / 3))}s",
            **parameters,
        )
    except Failed as error:
        if error.status == 413 and len(items) > 1:
            outcome = send(client, items[: len(items) // 2], **parameters)
            outcome.join(send(client, items[len(items) // 2 :], **parameters))
            return outcome
        if error.status == 413:
            return Outcome(refused=[f"larger than OpenSearch takes: {error}"])
        if error.status == 400:
            return Outcome(refused=[str(error)] * len(items))
        raise
    return classify(items, reply)


def classify(items: Sequence[Item], reply: Any) -> Outcome:
    """Return what the reply says of each item."""
    results = reply.get("items") if isinstance(reply, dict) else None
    if not isinstance(results, list) or len(results) != len(items):
        raise StoreError("OpenSearch's answer to a bulk request does not fit what was sent")
    outcome = Outcome()
    if reply.get("errors") is False:
        outcome.done = [item.tag for item in items]
        return outcome
    for item, result in zip(items, results, strict=True):
        _classify_one(outcome, item, *result.values())
    return outcome


def _classify_one(outcome: Outcome, item: Item, result: Any) -> None:
    error, status = result.get("error"), result.get("status", 0)
    if error is None:
        if 200 <= status < 300 or status == 404:  # a delete of what is gone
            outcome.done.append(item.tag)
        else:
            outcome.failed.append(f"status {status}")
    elif error.get("type") == CONFLICT:
        outcome.stood.append(item.tag)
    elif error.get("type") == NO_INDEX:
        outcome.missing.add(item.home)
    elif refused(error):
        outcome.refused.append(reason(error))
    else:
        if error.get("type") == BLOCKED:
            outcome.blocked.add(item.home)
        outcome.failed.append(f"{reason(error)} (status {status})")
