"""What keeps the blocks: the seam (`base`), its implementations, and the functions that open them.

A store is named by a DSN, "scheme:rest":

    sqlite:///absolute/folder               files on this machine (also a plain path)
    opensearch://[user:pw@]host:port/prefix OpenSearch 2.19 or 3; opensearch+https:// with TLS
    memory:name                             this process only, for tests

Only the two functions here know which stores there are; an implementation is imported when used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from loghaul_ingest.errors import UsageError
from loghaul_ingest.stores.base import Reader, Writer

#: scheme -> module that has `open_writer(rest)` and `open_reader(rest)`.
STORES = {
    "memory": "loghaul_ingest.stores.memory",
    "opensearch": "loghaul_ingest.stores.opensearch",
    "opensearch+https": "loghaul_ingest.stores.opensearch.secure",
    "sqlite": "loghaul_ingest.stores.sqlite",
}


def open_writer(dsn: str) -> Writer:
    """Open a store for writing; creates it. UsageError: no such scheme. StoreError: cannot."""
    writer: Writer = _call(dsn, "open_writer")
    return writer


def open_reader(dsn: str) -> Reader:
    """Open a store for reading; one that does not exist yet is empty. Raises as `open_writer`."""
    reader: Reader = _call(dsn, "open_reader")
    return reader


def _call(dsn: str, function: str) -> Any:
    scheme, colon, rest = dsn.partition(":")
    if not colon or "/" in scheme:
        scheme, rest = "sqlite", dsn
    if scheme not in STORES:
        raise UsageError(f"no store {scheme!r}: one of {', '.join(sorted(STORES))} is known")
    try:
        module = import_module(STORES[scheme])
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("loghaul"):
            raise
        extra = scheme.partition("+")[0]
        raise UsageError(f"install 'loghaul[{extra}]' ({error.name} is missing)") from error
    return getattr(module, function)(rest.removeprefix("//"))
