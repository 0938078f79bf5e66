"""Makes records of a chunk that no topic is too small for.

Bytes are at most 256 KiB by the cutter; what can be large beside them is the marks (a process that
writes single bytes has one for each) and the facts (a command line may be a megabyte).
"""

from __future__ import annotations

from typing import Any, Optional

from loghaul.chunk import Chunk, Record, encode
from loghaul.transports.base import RECORD_BYTES

#: The longest text of a fact; what is longer is cut and says so.
FACT_BYTES = 16 * 1024


def records(chunk: Chunk, most_bytes: int = RECORD_BYTES) -> list[Record]:
    """Return the records of a chunk, in order, each of at most so many bytes."""
    record = encode(chunk)
    if size(record) <= most_bytes:
        return [record]
    if len(chunk.marks) > 1:
        return [one for half in _halves(chunk) for one in records(half, most_bytes)]
    return [encode(_lean(chunk))]


def size(record: Record) -> int:
    """Return the bytes of a record, about as Kafka counts them."""
    headers = sum(len(name) + len(value) + 10 for name, value in record.headers)
    return len(record.key) + len(record.value) + headers + 32


def _halves(chunk: Chunk) -> tuple[Chunk, Chunk]:
    """Cut between two marks: gaps lie before the first byte, the end behind the last."""
    middle = len(chunk.marks) // 2
    length = sum(mark.length for mark in chunk.marks[:middle])
    first = chunk._replace(data=chunk.data[:length], marks=chunk.marks[:middle], end=None)
    second = chunk._replace(
        offset=chunk.offset + length,
        data=chunk.data[length:],
        marks=chunk.marks[middle:],
        gaps=(),
        common=chunk.common if chunk.end is not None else None,
    )
    return first, second


def _lean(chunk: Chunk) -> Chunk:
    end = chunk.end
    if end is not None:
        end = end._replace(detail=_short(end.detail) or {})
    return chunk._replace(common=_short(chunk.common), end=end)


def _short(facts: Optional[dict[str, Any]]) -> Optional[dict[str, Any]]:
    if facts is None:
        return None
    return {name: _cut(value) for name, value in facts.items()}


def _cut(value: Any) -> Any:
    if isinstance(value, str) and len(value) > FACT_BYTES:
        return f"{value[:FACT_BYTES]}... ({len(value)} characters)"
    if isinstance(value, list):
        kept: list[Any] = []
        left = FACT_BYTES
        for item in value:
            left -= len(str(item)) + 4
            if left < 0:
                return [*kept, f"... ({len(value)} items)"]
            kept.append(item)
        return kept
    if isinstance(value, dict):
        short: dict[str, Any] = {}
        left = FACT_BYTES
        for name, item in value.items():
            left -= len(str(name)) + len(str(item)) + 6
            if left < 0:
                break
            short[name] = item
        return short
    return value
