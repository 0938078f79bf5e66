"""What things are called in OpenSearch: indices, buckets, ids and routing.

Ids of runs and names of streams may hold anything, lone surrogates included; what is given to
OpenSearch is made of letters and digits. A run whose id is not is known by a hash of it; the true
names stand in the packed heads and facts.
"""

from __future__ import annotations

import hashlib
import re
from base64 import urlsafe_b64encode
from datetime import UTC, datetime
from functools import lru_cache

from loghaul.chunk import StreamKey

#: Version of the mappings, a part of every index's name: another one never meets these indices.
SCHEMA = 1

#: Bucket of writers whose clock is not to be believed; else each year would be an index.
UNDATED = "undated"
_YEARS = range(2020, 2100)
_PLAIN_RUN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:=@+-]{0,199}")


class Names:
    """The names of a store's indices."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.streams = f"{prefix}-streams-v{SCHEMA}"
        self.runs = f"{prefix}-runs-v{SCHEMA}"
        self._blocks = f"{prefix}-blocks-v{SCHEMA}-"

    def blocks(self, bucket: str = "*") -> str:
        """Return the index of a bucket; the pattern of all of them."""
        return self._blocks + bucket

    def bucket(self, index: str) -> str:
        """Return the bucket of an index of blocks."""
        return index.removeprefix(self._blocks)


def bucket_of(started_us: int) -> str:
    """Return the bucket of a writer that started then: its month, in UTC."""
    try:
        start = datetime.fromtimestamp(started_us / 1e6, UTC)
    except (ValueError, OverflowError, OSError):
        return UNDATED
    return f"{start:%Y.%m}" if start.year in _YEARS else UNDATED


@lru_cache(maxsize=4096)
def run_key(run: str) -> str:
    """Return what a run is called in OpenSearch: its id, or a hash of one with odd characters."""
    if _PLAIN_RUN.fullmatch(run):
        return run
    return "~" + _hash(run.encode("utf-8", "surrogatepass"))


@lru_cache(maxsize=65536)
def stream_id(key: StreamKey) -> str:
    """Return 16 characters that stand for a stream."""
    parts = [part.encode("utf-8", "surrogatepass") for part in key]
    return _hash(b"".join(b"%d:%b" % (len(part), part) for part in parts))


def block_id(stream: str, offset: int) -> str:
    """Return the id of a block; ids of one stream begin alike, which OpenSearch stores well."""
    return f"{stream}-{offset:x}"


def number_of(offset: int) -> int:
    """Return a random number below 2**31 that stands for an offset, see `chains`."""
    raw = offset.to_bytes(8, "little", signed=True)
    return int.from_bytes(hashlib.blake2b(raw, digest_size=4).digest(), "little") >> 1


def _hash(raw: bytes) -> str:
    return urlsafe_b64encode(hashlib.blake2b(raw, digest_size=12).digest()).decode()
