"""Format and invariants of the spool: what lies on the disk, and what a reader may rely on.

    <root>/                       0700, one per node
      <writer>/                   0700, 32 hex digits; made under a dotted name, then renamed
        lock                      flock, held for as long as the writer or a relative of it lives
        writer.json               facts of the writer, written once, atomically
        position.json             what was released so far, written by the reader that releases
        00000001.segment ...      records, in order; only the last one is written to

A segment is preallocated with posix_fallocate (a full disk is an error there, never a SIGBUS when
a page is touched), zero-filled, and mapped by its writer. Readers use pread: a segment that is
cut or unlinked under them is short, not a fault. The first is small and each following one
larger, so that a short process costs little. All numbers are little-endian.

Segment header, 64 bytes:

    magic "loghaul\\n" · version u32 · header bytes u32 · number u64 · bytes u64 · writer 16 bytes
    · created (us) i64 · crc32 of the 56 bytes before u32 · zero u32

Record, 32 bytes of header, the payload, zeros to a multiple of 8:

     0  u32  length     header and payload, without padding; 0 = not written (yet); written LAST
     4  u32  crc32      of the bytes [8, length)
     8  i64  time       of arrival, microseconds since the epoch, UTC
    16  u32  tag        stream (low 16 bits), kind << 16, flags << 24
    20  u32  intent     bytes that read_from() is about to read; number of the site in a SITE or
                        LOG record; 0 in every other one
    24  i64  offset     in the stream

Kinds, and what the payload is:

    DATA     bytes of the stream at `offset`
    DECLARE  JSON {name, kind, path, iostream, facts, digest}: the stream exists, its end is
             `offset`. Every segment begins with the declarations of all streams, so that each
             can be understood without those before it
    GAP      from `offset` on bytes were refused: u64 counter, then the reason in UTF-8. The
             counter is raised in place for every refusal that follows directly, and is not
             covered by the CRC (taken as zero), so that a killed writer still tells how much
    END      JSON {cause, sha256, detail}: the stream has ended at `offset`
    CLOSE    every stream of the writer has ended; nothing follows
    SITE     text that the lines of one call site have in common: before, head, tail, a newline
             after the first two. It holds for the LOG records behind it in the same segment,
             whose number it has; numbers begin at 1, and a segment has at most 1,000
    LOG      one line of an events stream, without what its site says. The line at `offset` is
             before, the moment in 26 bytes, head, payload, tail; offsets count all of it. `time`
             is an f64 here: seconds since the epoch, as in a Python log record

Invariants

1.  A record exists completely or not at all: the length word is one aligned 4-byte store, made
    after everything else. On x86-64 stores become visible in their order (TSO). On ARM another
    core may see the length before the payload; the CRC turns that into "not yet". Within one
    machine a SIGKILL loses no store: the page cache belongs to the kernel.
2.  Only one thread writes at a time, so records become visible in order. A record with a good CRC
    behind a place without one therefore proves damage there, also in a live segment.
3.  Offsets of a stream never step back. A record that begins beyond the end of the one before
    it tells of missing bytes: refused (a GAP record says why), damaged or dropped. No other
    bookkeeping of losses is needed, and none can disagree with the bytes.
4.  Nobody writes to a segment but its writer, and a writer never writes to a segment it did not
    create: whoever goes on after a death (reopen, abandoned) starts the next segment. A segment
    that has a successor is final.
5.  `intent` stands before bytes are read from a pipe into the map; length and full CRC come
    after. A header whose length is 0, whose CRC is that of the bytes [8, 32), and behind which
    not all `intent` bytes are zero, is a read that a SIGKILL met between read(2) and the commit:
    its bytes are whole. (A read of nothing but NUL bytes that is killed there is lost.) With the
    flag AT_MOST the read may have brought less, and zeros at its end do not count. Only DATA has
    an intent.
6.  Bytes behind the last record are zero in a live segment; in a final one anything else there
    is damage.
7.  The bytes of a line do not depend on who reads it, or from where: a site is declared in the
    segment that uses it, and never twice under one number. A damaged declaration costs the lines
    of its site in that segment, which are a gap like any other (invariant 3).
"""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

from loghaul.errors import SpoolError, SpoolFormatError

#: Version of this format. A reader refuses a newer one instead of guessing.
VERSION = 1
MAGIC = b"loghaul\n"

SEGMENT_HEADER = struct.Struct("<8sIIQQ16sqII")
SEGMENT_HEADER_BYTES = 64

#: length, crc32, time, tag, intent, offset
HEADER = struct.Struct("<IIqIIq")
#: The part of the header that the CRC covers.
COVERED = struct.Struct("<qIIq")
#: The same of a LOG record, whose time is that of the log record itself, in seconds.
LOG_HEADER = struct.Struct("<IIdIIq")
#: The part of it that the CRC covers, tag and number as one.
LINE_COVERED = struct.Struct("<dQq")
HEADER_BYTES = 32
UNCOVERED_BYTES = 8

DATA, DECLARE, GAP, END, CLOSE, SITE, LOG = range(7)
#: The last of the kinds above; a larger number is damage.
LAST_KIND = LOG
#: Flag of an intent: the read may bring less than was announced (a terminal).
AT_MOST = 1
#: Stream number of records that belong to the writer as a whole.
NO_STREAM = 0xFFFF

#: Longer appends become several records.
MAX_PAYLOAD_BYTES = 128 * 1024
MAX_RECORD_BYTES = HEADER_BYTES + MAX_PAYLOAD_BYTES
#: Kept free at a segment's end for gaps and ends, which must find room when data does not.
TAIL_BYTES = 4096
COUNTER = struct.Struct("<Q")


class SegmentHeader(NamedTuple):
    """What a segment says of itself. `created_us`: microseconds since the epoch."""

    number: int
    size: int
    writer: str
    created_us: int


class Position(NamedTuple):
    """A place between two records: everything before it has been read.

    segment   number of the segment
    offset    in its file, bytes
    ends      end of each stream there, by stream number
    """

    segment: int
    offset: int
    ends: tuple[int, ...] = ()


#: Before the first record of a writer, whatever was released since.
START = Position(0, 0, ())


def encode_segment_header(header: SegmentHeader) -> bytes:
    """Return the first 64 bytes of a segment."""
    fields = (
        MAGIC,
        VERSION,
        SEGMENT_HEADER_BYTES,
        header.number,
        header.size,
        bytes.fromhex(header.writer),
        header.created_us,
    )
    crc = zlib.crc32(SEGMENT_HEADER.pack(*fields, 0, 0)[:-8])
    return SEGMENT_HEADER.pack(*fields, crc, 0)


def decode_segment_header(data: bytes) -> SegmentHeader:
    """Return what the first bytes of a segment say.

    Raises SpoolFormatError when a newer loghaul wrote it, SpoolError when it is damaged.
    """
    if len(data) < SEGMENT_HEADER_BYTES:
        raise SpoolError("segment is shorter than its header")
    magic, version, _size, number, size, writer, created_us, crc, _ = SEGMENT_HEADER.unpack_from(
        data
    )
    if magic != MAGIC:
        raise SpoolError("not a segment of a spool")
    if zlib.crc32(data[: SEGMENT_HEADER_BYTES - 8]) != crc:
        raise SpoolError("segment header is damaged")
    if version > VERSION:
        raise SpoolFormatError(
            f"the spool was written by a newer loghaul (format {version}, this one reads up to "
            f"{VERSION}): upgrade loghaul here; nothing was touched"
        )
    return SegmentHeader(number, size, writer.hex(), created_us)


def encode_record(
    kind: int, stream: int, offset: int, time_us: int, payload: bytes, number: int = 0
) -> tuple[int, bytes]:
    """Return (length word, the bytes that belong behind it: CRC, header, payload)."""
    covered = COVERED.pack(time_us, stream | kind << 16, number, offset) + payload
    crc = zlib.crc32(covered)
    return len(covered) + UNCOVERED_BYTES, crc.to_bytes(4, "little") + covered


def aligned(length: int) -> int:
    """Round a record's length up to where the next one begins."""
    return (length + 7) & -8
