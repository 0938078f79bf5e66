"""OTLP as JSON: `otlp_json` of the collector's kafka exporter, files of its file exporter.

Not what protobuf's own JSON would be: ids are hex, 64-bit numbers are text, enums are numbers
(https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding). So it is read by hand; what is
not as it should be is taken for absent, and no record stops its neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from loghaul_ingest.foreign import said
from loghaul_ingest.foreign.entry import Entry, Producer
from loghaul_ingest.foreign.otlp import Logged, entry, producer

#: Values inside values, at most so deep.
_DEEPEST = 32


def fits(found: dict[str, Any]) -> bool:
    """Whether a JSON object is a request of OTLP logs."""
    return isinstance(found.get("resourceLogs"), list)


def entries(found: dict[str, Any], given: Producer, arrived_us: int) -> list[Entry]:
    """Return the entries of a request, in its order."""
    result = []
    for group in _objects(found.get("resourceLogs")):
        resource = said.as_mapping(group.get("resource"))
        who = producer(attributes(resource.get("attributes")), given)
        for scoped in _objects(group.get("scopeLogs")):
            scope = said.name(said.as_mapping(scoped.get("scope")).get("name")) or ""
            for record in _objects(scoped.get("logRecords")):
                result.append(entry(who, scope, _logged(record), arrived_us))
    return result


def _logged(record: Mapping[str, Any]) -> Logged:
    time = _nanoseconds(record.get("timeUnixNano"))
    return Logged(
        time if time is not None else _nanoseconds(record.get("observedTimeUnixNano")),
        _integer(record.get("severityNumber")) or 0,
        said.name(record.get("severityText")) or "",
        value_of(record.get("body")),
        attributes(record.get("attributes")),
        _hex(record.get("traceId"), 32),
        _hex(record.get("spanId"), 16),
    )


def attributes(pairs: Any) -> dict[str, Any]:
    """Return a list of keys and values as a mapping."""
    return {
        pair["key"]: value_of(pair.get("value"))
        for pair in _objects(pairs)
        if isinstance(pair.get("key"), str)
    }


def value_of(value: Any, depth: int = 0) -> Any:
    """Return an AnyValue as JSON would write it; what is none, or too deep, is null."""
    if not isinstance(value, dict) or depth > _DEEPEST:
        return None
    for key in ("stringValue", "boolValue", "doubleValue", "bytesValue"):
        if key in value:
            return value[key]
    if "intValue" in value:
        return _integer(value["intValue"])
    if "arrayValue" in value:
        items = said.as_mapping(value["arrayValue"]).get("values")
        return [value_of(item, depth + 1) for item in _objects(items)]
    if "kvlistValue" in value:
        return {
            pair["key"]: value_of(pair.get("value"), depth + 1)
            for pair in _objects(said.as_mapping(value["kvlistValue"]).get("values"))
            if isinstance(pair.get("key"), str)
        }
    return None


def _objects(items: Any) -> Iterator[dict[str, Any]]:
    if isinstance(items, list):
        yield from (item for item in items if isinstance(item, dict))


def _integer(value: Any) -> int | None:
    if isinstance(value, str) and len(value) <= 20 and value.lstrip("-").isdecimal():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _nanoseconds(value: Any) -> int | None:
    number = _integer(value)
    return number // 1000 if number and 0 < number < 2**63 else None


def _hex(value: Any, length: int) -> str:
    text = value.lower() if isinstance(value, str) and len(value) == length else ""
    return text if text.strip("0") and not text.strip("0123456789abcdef") else ""
