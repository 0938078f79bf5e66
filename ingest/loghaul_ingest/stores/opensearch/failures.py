"""What OpenSearch and its driver say when something fails, as StoreError: one sentence each.

`permanent` is true only of a document that will never be taken (its mapping refuses it). All else
may pass: overload, blocks on indices, missing shards, rights that somebody will grant. So nothing
becomes a dead letter because a disk was full.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opensearchpy.exceptions import (
    ConnectionError as Unreachable,
)
from opensearchpy.exceptions import (
    ConnectionTimeout,
    OpenSearchException,
    SerializationError,
    SSLError,
    TransportError,
)

from loghaul_ingest.errors import StoreAway, StoreError, StoreHungUp
from loghaul_ingest.stores.opensearch.address import Address

CONFLICT = "version_conflict_engine_exception"
NO_INDEX = "index_not_found_exception"
BLOCKED = "cluster_block_exception"

#: No answer (0 is a connection that failed), or one that says that there will be one.
PASSING = frozenset((0, 429, 502, 503, 504))
#: Types of errors that the same document will always meet.
_REFUSED = frozenset(
    {
        "mapper_parsing_exception",
        "document_parsing_exception",
        "strict_dynamic_mapping_exception",
        "illegal_argument_exception",
        "parsing_exception",
        "not_x_content_exception",
        "x_content_parse_exception",
    }
)


class Failed(StoreError):
    """An answer that tells of an error. `status` of HTTP, 0 without; `kind` is the error's type."""

    def __init__(self, message: str, status: int = 0, kind: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind


class Away(Failed, StoreAway):
    """No answer, or one that says that there will be one."""


class BrokeOff(Away):
    """The connection was reset."""


class HungUp(Failed, StoreHungUp):
    """The connection was ended without an answer."""


def refused(error: Mapping[str, Any]) -> bool:
    """Return whether an item's error is that of a document that will never be taken."""
    return error.get("type") in _REFUSED


def reason(error: Any) -> str:
    """Return type and reason of an error as OpenSearch writes it, with the cause below it."""
    if not isinstance(error, Mapping):
        return str(error)[:300]
    text = f"{error.get('type')}: {error.get('reason')}"
    cause = error.get("caused_by")
    if isinstance(cause, Mapping) and cause.get("reason"):
        text += f" ({cause['reason']})"
    return text[:500]


def translate(error: OpenSearchException, address: Address) -> Failed:
    """Return what the driver raised as one sentence with what to do."""
    if isinstance(error, ConnectionTimeout):
        return Away(f"OpenSearch at {address} gave no answer within {address.timeout_seconds:g} s")
    if isinstance(error, SSLError):
        return Failed(
            f"no TLS with {address}: {error.error}; for a certificate of your own say ?ca=FILE, "
            "for a server without TLS opensearch://"
        )
    if isinstance(error, Unreachable):
        return _unreachable(error, address)
    if isinstance(error, SerializationError):
        return Failed(f"{address} does not answer as OpenSearch does: is this its port?")
    if isinstance(error, TransportError) and isinstance(error.status_code, int):
        return _answered(error, address)
    return Failed(f"OpenSearch at {address}: {error}")


def _unreachable(error: Unreachable, address: Address) -> Failed:
    text = str(error.error)
    odd = (
        "ProtocolError",
        "BadStatusLine",
        "RemoteDisconnected",
        "Connection aborted",
        "IncompleteRead",
    )
    if any(word in text or word in repr(error.info) for word in odd) and "reset" not in text:
        return HungUp(
            f"{address} does not speak HTTP, or broke off: is this the port of OpenSearch "
            f"{'with' if address.tls else 'without'} TLS?"
        )
    if "reset" in text:
        return BrokeOff(f"the connection to OpenSearch at {address} broke off")
    why = text.rpartition(": ")[2] or text
    return Away(
        f"OpenSearch at {address} cannot be reached: {why}; is it running, is the DSN right?"
    )


def _answered(error: TransportError, address: Address) -> Failed:
    status, kind = int(error.status_code), ""
    text = str(error.error)
    info = error.info
    if isinstance(info, Mapping) and isinstance(info.get("error"), Mapping):
        kind, text = str(info["error"].get("type")), reason(info["error"])
    if status == 401:
        known = (
            f"user {address.user!r} or the password" if address.user else "requests without user"
        )
        message = f"OpenSearch at {address} refuses {known}: put the right ones into the DSN"
    elif status == 403 and kind != BLOCKED:
        message = f"user {address.user!r} lacks rights in OpenSearch at {address}: {text}"
    elif status in (429, 503) and not kind:
        message = f"OpenSearch at {address} is overloaded or not ready (status {status})"
    elif not kind:
        message = f"{address} answers with status {status}: is this the port of OpenSearch?"
    else:
        message = f"OpenSearch at {address}: {text} (status {status})"
    # A node that ends or begins says 500 and what broke in it: its own fault, which passes.
    passing = status in PASSING or (bool(kind) and status >= 500)
    return (Away if passing else Failed)(message, status, kind)
