"""How the parts of a block lie in a column: bytes, marks, levels, facts."""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Mapping, Sequence
from itertools import accumulate, starmap
from typing import Any

import orjson
import zstandard

from loghaul.chunk import End, Gap, Mark, StreamKey
from loghaul_ingest.block import Facts

#: With a dictionary as small as level 3 on real logs, sometimes smaller, and a third faster.
LEVEL = 1

#: A frame says how large its content is, and as much memory is taken: an altered one says anything.
_LARGEST_BYTES = 64 * 2**20
#: Marks of this many bytes are not worth a frame.
_SMALL = 64


class Codec:
    """Compressors and decompressors of a run, made once. Not for several threads at a time.

    A dictionary, trained on the run's first blocks, saves an eighth of full blocks and most of
    small ones. Each frame names the one it needs; 0 is none.
    """

    def __init__(self) -> None:
        # The checksum turns a flipped bit on the disk into an error instead of a wrong byte.
        self._compressor = self._plain = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True)
        self._decompressors = {0: zstandard.ZstdDecompressor()}

    def use(self, dictionary: bytes) -> None:
        """Learn a dictionary, and compress with it from now on."""
        learned = zstandard.ZstdCompressionDict(dictionary)
        number = learned.dict_id()
        if number not in self._decompressors:
            self._decompressors[number] = zstandard.ZstdDecompressor(dict_data=learned)
        learned.precompute_compress(level=LEVEL)
        self._compressor = zstandard.ZstdCompressor(
            level=LEVEL, dict_data=learned, write_checksum=True
        )

    def knows(self, packed: bytes) -> bool:
        """Return whether the dictionary of a frame was learned."""
        return zstandard.get_frame_parameters(packed).dict_id in self._decompressors

    def pack(self, data: bytes) -> bytes:
        """Return `data` compressed."""
        return self._compressor.compress(data)

    def unpack(self, packed: bytes) -> bytes:
        """Return the bytes again. Raises zstandard.ZstdError when they were altered."""
        frame = zstandard.get_frame_parameters(packed)
        number = frame.dict_id
        if number not in self._decompressors:
            raise zstandard.ZstdError(f"dictionary {number} is not there")
        if frame.content_size > _LARGEST_BYTES:
            raise zstandard.ZstdError(f"{frame.content_size:,} bytes are more than any block has")
        return self._decompressors[number].decompress(packed)

    def pack_marks(self, marks: Sequence[Mark]) -> bytes:
        """Return marks as two columns, lengths and time differences, compressed when it pays."""
        lengths = [mark[0] for mark in marks]
        times = [mark[1] for mark in marks]
        base = times[0] if times else 0
        deltas = [time - before for before, time in zip([base, *times], times, strict=False)]
        wide = any(not -(1 << 31) <= delta < 1 << 31 for delta in deltas)
        columns = _little(array("I", lengths)) + _little(array("q" if wide else "i", deltas))
        plain = struct.pack("<?Iq", wide, len(marks), base) + columns
        if len(plain) > _SMALL:
            packed = b"z" + self._plain.compress(plain)
            if len(packed) <= len(plain):
                return packed
        return b"p" + plain

    def unpack_marks(self, packed: bytes) -> tuple[Mark, ...]:
        """Return the marks again."""
        plain = packed[1:] if packed[:1] == b"p" else self._decompressors[0].decompress(packed[1:])
        wide, count, base = struct.unpack_from("<?Iq", plain)
        start = struct.calcsize("<?Iq")
        lengths = _array("I", plain[start : start + 4 * count])
        deltas = _array("q" if wide else "i", plain[start + 4 * count :])
        times = accumulate(deltas, initial=base)
        next(times)
        return tuple(starmap(Mark, zip(lengths, times, strict=True)))


def pack_levels(levels: Mapping[str, int]) -> bytes | None:
    """Return counts per level as JSON; None for none."""
    return orjson.dumps(dict(levels)) if levels else None


def unpack_levels(packed: bytes | None) -> dict[str, int]:
    """Return counts per level."""
    found: dict[str, int] = orjson.loads(packed) if packed else {}
    return found


def pack_name(name: str) -> bytes:
    """Return a name that may hold anything, lone surrogates included."""
    return name.encode("utf-8", "surrogatepass")


def unpack_name(packed: bytes) -> str:
    """Return the name again."""
    return packed.decode("utf-8", "surrogatepass")


def pack_facts(facts: Facts) -> bytes:
    """Return the facts of a stream without its key, kind and start."""
    import json

    return json.dumps(
        {
            "common": dict(facts.common),
            "end": list(facts.end) if facts.end else None,
            "gaps": [list(gap) for gap in facts.gaps],
        },
        separators=(",", ":"),
    ).encode()


def unpack_facts(stream: StreamKey, kind: str, started: int, packed: bytes) -> Facts:
    """Return the facts of a stream."""
    import json

    # Not orjson: hostile facts may hold numbers and surrogates that only the standard one reads.
    found: dict[str, Any] = json.loads(packed)
    end = End(*found["end"]) if found["end"] else None
    gaps = tuple(Gap(*gap) for gap in found["gaps"])
    return Facts(stream, kind, started, found["common"], end, gaps)


def _little(column: array[int]) -> bytes:
    if sys.byteorder == "big":
        column.byteswap()
    return column.tobytes()


def _array(code: str, raw: bytes) -> array[int]:
    column = array(code, raw)
    if sys.byteorder == "big":
        column.byteswap()
    return column
