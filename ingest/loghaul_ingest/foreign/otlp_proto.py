"""OTLP as protobuf: what the collector's kafka exporter sends by default.

Needs the extra `otlp`; without it such a record is a dead letter that says so, and can be replayed
when it is there.
"""

from __future__ import annotations

import base64
from typing import Any

from loghaul_ingest.foreign.entry import Entry, ForeignError, Producer
from loghaul_ingest.foreign.otlp import Logged, entry, producer


def fits(value: bytes) -> bool:
    """Whether bytes have the outline of a request: messages of field 1, and nothing else.

    Needs no library, and tells it from text that begins with a newline.
    """
    at = 0
    while at < len(value):
        if value[at] != 0x0A:
            return False
        length, at = _varint(value, at + 1)
        at += length
        if length < 0 or at > len(value):
            return False
    return bool(value)


def _varint(value: bytes, at: int) -> tuple[int, int]:
    """Return (number, place behind it); the number is -1 where there is none."""
    number = 0
    for shift in range(0, 35, 7):
        if at >= len(value):
            return -1, at
        number |= (value[at] & 0x7F) << shift
        at += 1
        if value[at - 1] < 0x80:
            return number, at
    return -1, at


def entries(value: bytes, given: Producer, arrived_us: int) -> list[Entry]:
    """Return the entries of a request, in its order."""
    result = []
    for group in _parsed(value).resource_logs:
        who = producer(_attributes(group.resource.attributes), given)
        for scoped in group.scope_logs:
            for record in scoped.log_records:
                result.append(entry(who, scoped.scope.name, _logged(record), arrived_us))
    return result


def _parsed(value: bytes) -> Any:
    try:
        from google.protobuf.message import DecodeError
        from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
    except ModuleNotFoundError as error:
        raise ForeignError(
            "OTLP as protobuf cannot be read: install 'loghaul[otlp]' "
            f"({error.name} is missing), then replay this letter"
        ) from error
    try:
        return logs_service_pb2.ExportLogsServiceRequest.FromString(value)
    except DecodeError as error:
        raise ForeignError(f"record is no OTLP request: {error}") from error


def _logged(record: Any) -> Logged:
    nanoseconds = record.time_unix_nano or record.observed_time_unix_nano
    return Logged(
        nanoseconds // 1000 if 0 < nanoseconds < 2**63 else None,
        record.severity_number,
        record.severity_text,
        _value(record.body),
        _attributes(record.attributes),
        record.trace_id.hex() if any(record.trace_id) else "",
        record.span_id.hex() if any(record.span_id) else "",
    )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: Any) -> Any:
    """Return an AnyValue as JSON would write it. Protobuf itself bounds how deep they are."""
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return _attributes(value.kvlist_value.values)
    if kind == "bytes_value":
        return base64.b64encode(value.bytes_value).decode()
    return getattr(value, kind)
