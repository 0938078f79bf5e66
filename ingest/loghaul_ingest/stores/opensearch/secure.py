"""The same store over TLS: "opensearch+https://user:password@host:9200/prefix"."""

from __future__ import annotations

from loghaul_ingest.stores import opensearch
from loghaul_ingest.stores.opensearch import OpenSearchReader, OpenSearchWriter


def open_writer(rest: str) -> OpenSearchWriter:
    """See `opensearch.open_writer`."""
    return opensearch.open_writer(rest, tls=True)


def open_reader(rest: str) -> OpenSearchReader:
    """See `opensearch.open_reader`."""
    return opensearch.open_reader(rest, tls=True)
