"""A store in OpenSearch 2.19 or 3: one document per block, plain indices, one shard per run.

    PREFIX-blocks-v1-2026.11    blocks of the streams whose writers started in that month
    PREFIX-streams-v1           the facts of every stream, and the bucket that its blocks lie in
    PREFIX-runs-v1              tombstones of deleted runs

Everything of a run is routed by its id. A block's document has the id of (stream, offset), so that
it is created once, whoever writes it. Buckets go by the start of the writer, which never changes:
a replay finds the same index (a data stream or a rolled-over alias would take it twice).
"""

from __future__ import annotations

from loghaul_ingest.stores.opensearch.address import parse
from loghaul_ingest.stores.opensearch.reader import OpenSearchReader
from loghaul_ingest.stores.opensearch.writer import OpenSearchWriter

__all__ = ["OpenSearchReader", "OpenSearchWriter", "open_reader", "open_writer"]


def open_writer(rest: str, *, tls: bool = False) -> OpenSearchWriter:
    """Open "opensearch://[user:password@]host:port/prefix"; makes the templates.

    UsageError: the DSN makes no sense. StoreError: nobody answers, it is no OpenSearch, or its
    templates or indices are unsafe to write to.
    """
    return OpenSearchWriter(parse(rest, tls))


def open_reader(rest: str, *, tls: bool = False) -> OpenSearchReader:
    """Open it for reading; asks nothing yet. UsageError: the DSN makes no sense."""
    return OpenSearchReader(parse(rest, tls))
