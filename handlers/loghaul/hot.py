"""The hot path: what every record of a training script costs, from the logger into the spool.

`take(record, outlet)` promises: everything of the record is kept, as the line that
`loghaul.event` describes; nothing raises because of what the record carries, nothing blocks.

What is the same for every record of one call site (logger, level, source place, thread) is made
once and declared to the spool; a record is then its time and its message. It is one flat
function, because calls are what it would cost most: its second half is `Appender.log` of a calm
writer, under the same rules (see `loghaul.spool.appender`). Whatever is unusual leaves it early:
a record with more than a message (exception, stack, extra) takes the longer way.
"""

from __future__ import annotations

import logging
import sys
from json.encoder import encode_basestring as _quote
from struct import Struct
from typing import TYPE_CHECKING, Any
from zlib import crc32

from loghaul import event

if TYPE_CHECKING:
    from loghaul.outlet import Outlet

_HAS_TASKS = sys.version_info >= (3, 12)
_PLAIN = len(logging.LogRecord("", 0, "", 0, "", None, None).__dict__)

#: What is not written as it is within a JSON string changes here.
_ESCAPED = bytes(byte ^ 128 if byte < 32 or byte in b'"\\' else byte for byte in range(256))
_encode = str.encode
#: As in `loghaul.spool.format`, which is not loaded before the first record.
_pack_line = Struct("<dQq").pack
_HEADER_BYTES, _MAX_PAYLOAD_BYTES = 32, 128 * 1024

_sites = event.sites


def take(record: logging.LogRecord, outlet: Outlet) -> None:
    """Keep a record. This is the boundary to the script: never raises."""
    try:
        if record.exc_info or record.exc_text or record.stack_info:
            return event.take_long(record, outlet)
        # In the order of event.SITE.
        if _HAS_TASKS:
            site = _sites[
                record.lineno, record.pathname, record.funcName, record.name, record.levelno,
                record.thread, record.threadName, record.process,
                record.taskName,  # type: ignore[attr-defined]
            ]  # fmt: skip
        else:
            site = _sites[
                record.lineno, record.pathname, record.funcName, record.name, record.levelno,
                record.thread, record.threadName, record.process,
            ]  # fmt: skip
        message, args = record.msg, record.args
        if args:
            if outlet.merging:
                return event.take_long(record, outlet)
            outlet.merging = True
            try:
                message = message % args
            finally:
                outlet.merging = False
        # What is no text, or has a lone surrogate, makes this raise.
        data = _encode(message)
        if data.translate(_ESCAPED) is not data:
            data = _quote(message)[1:-1].encode()
        created, stream = record.created, outlet.stream
        # Last: asking for its dictionary makes the attributes of a record slow to get.
        if len(record.__dict__) != _PLAIN and _has_extras(record.__dict__):
            return event.take_long(record, outlet)
    except Exception:  # noqa: BLE001 - whatever it is, the longer way knows how to live with it
        return event.take_long(record, outlet)
    if outlet.calm is None or outlet.calm._busy:
        outlet.log(stream, site, created, data, record.levelno)
        return
    # Only the frame that holds a writer knows it by this name (see HOLDERS of the spool).
    writer = outlet.calm
    writer._busy = True
    try:
        start, size = writer._position, len(data)
        after = (start + size + 39) & -8
        if after > writer._limit or size > _MAX_PAYLOAD_BYTES or site not in writer._sites:
            writer._accept_line(stream, site, created, data, record.levelno)
            return
        offsets = writer._offsets
        offset = offsets[stream]
        covered = _pack_line(created, writer._sites[site], offset) + data
        length = size + _HEADER_BYTES
        writer._map[start + 8 : start + length] = covered
        words, index = writer._words, start >> 2
        words[index + 1] = crc32(covered)
        # Nothing is called from here on, so that no interrupt comes in between.
        writer._position = after
        offsets[stream] = offset + site.length + size
        words[index] = length
    except Exception as error:  # noqa: BLE001 - the script must never see an error of ours
        writer._failed(error)
    finally:
        try:
            # Nothing is called between this test and the flag's fall: no signal in between.
            while writer._deferred:
                writer._drain()
        finally:
            writer._busy = False


def _has_extras(values: dict[str, Any]) -> bool:
    """A formatter that ran before leaves `message` and `asctime` on the record."""
    return len(values) - ("message" in values) - ("asctime" in values) != _PLAIN
