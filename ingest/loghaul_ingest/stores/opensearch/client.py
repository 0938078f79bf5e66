"""One connection to OpenSearch for reader and writer: requests, errors translated.

The driver would send a failed request again at once, to the same node; whoever uses a store
decides about that. Of several hosts one that cannot be reached is passed over. A reader has
patience: a node that answered before and is away for a moment, as when it is restarted, is waited
for. Safe for several threads.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Mapping
from typing import Any

import orjson
from opensearchpy import OpenSearch
from opensearchpy.exceptions import OpenSearchException
from opensearchpy.serializer import JSONSerializer

from loghaul_ingest.errors import StoreError
from loghaul_ingest.stores.opensearch.address import Address
from loghaul_ingest.stores.opensearch.failures import PASSING, BrokeOff, Failed, HungUp, translate

#: What is said about this driver is said by our errors; without this it goes to stderr.
logging.getLogger("opensearch").addHandler(logging.NullHandler())

OLDEST = (2, 12)
CONNECTIONS = 16

_PAUSE_SECONDS = 0.25


class _Json(JSONSerializer):
    """Reads answers several times faster than the driver's own."""

    def loads(self, s: str) -> Any:
        try:
            return orjson.loads(s)
        except ValueError:
            return super().loads(s)


class Client:
    """Requests to one store.

    patience_seconds   how long what may pass is tried again, once the store has answered
    """

    def __init__(self, address: Address, patience_seconds: float = 0.0) -> None:
        self.address, self._patience_seconds = address, patience_seconds
        self.version: tuple[int, ...] = ()
        self._checking = threading.Lock()
        self._closed = False
        self._driver = OpenSearch(
            hosts=[{"host": host, "port": port} for host, port in address.hosts],
            http_auth=(address.user, address.password) if address.user is not None else None,
            use_ssl=address.tls,
            timeout=address.timeout_seconds,
            # Once per further host, where one cannot be reached; never to the same one again.
            max_retries=len(address.hosts) - 1,
            retry_on_timeout=False,
            retry_on_status=(),
            pool_maxsize=CONNECTIONS,
            serializer=_Json(),
            **_tls(address),
        )

    def call(
        self,
        method: str,
        path: str,
        body: bytes | Mapping[str, Any] | None = None,
        *,
        timeout_seconds: float | None = None,
        patient: bool = True,
        **parameters: Any,
    ) -> Any:
        """Return the parsed answer. Raises Failed for every other than success."""
        if self._closed:
            raise StoreError("this store was closed")
        if not self.version:
            self.check()
        until = time.monotonic() + (self._patience_seconds if patient else 0.0)
        while True:
            try:
                return self._send(method, path, body, parameters, timeout_seconds)
            except Failed as error:
                if error.status not in PASSING or time.monotonic() + _PAUSE_SECONDS > until:
                    raise
            time.sleep(_PAUSE_SECONDS)

    def check(self) -> None:
        """Find out what answers there. Raises Failed when it is no OpenSearch that we know."""
        with self._checking:
            if self.version:
                return
            try:
                said = self._send("GET", "/", None, {}, min(5.0, self.address.timeout_seconds))
            except BrokeOff as error:
                if self.address.tls:
                    raise
                raise HungUp(
                    f"{self.address} breaks off at the first request: if it wants TLS, write "
                    "opensearch+https://"
                ) from error
            version = said.get("version", {}) if isinstance(said, Mapping) else {}
            number = version.get("number") if isinstance(version, Mapping) else None
            if not isinstance(number, str):
                raise Failed(
                    f"{self.address} does not answer as OpenSearch does: is this its port?"
                )
            if version.get("distribution") != "opensearch":
                raise Failed(f"{self.address} is Elasticsearch {number}: OpenSearch is needed")
            found = tuple(int(part) for part in number.split("-")[0].split(".") if part.isdigit())
            if found < OLDEST:
                raise Failed(f"{self.address} is OpenSearch {number}: 2.19 or newer is needed")
            self.version = found

    def close(self) -> None:
        """Close the connections. Idempotent."""
        if not self._closed:
            self._closed = True
            self._driver.close()

    def _send(
        self,
        method: str,
        path: str,
        body: Any,
        parameters: Mapping[str, Any],
        timeout_seconds: float | None,
    ) -> Any:
        params: dict[str, Any] = {name: _word(value) for name, value in parameters.items()}
        # Said always: without it the driver takes a `timeout` meant for OpenSearch as its own.
        params["request_timeout"] = timeout_seconds or self.address.timeout_seconds
        if body is not None and not isinstance(body, bytes):
            body = orjson.dumps(body)
        try:
            return self._driver.transport.perform_request(method, path, params=params, body=body)
        except OpenSearchException as error:
            raise translate(error, self.address) from error


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _tls(address: Address) -> dict[str, Any]:
    if not address.tls:
        return {}
    verify = address.options.get("verify", "yes") not in ("no", "false", "0")
    found: dict[str, Any] = {"verify_certs": verify, "ssl_show_warn": False}
    if "ca" in address.options:
        found["ca_certs"] = address.options["ca"]
        if not os.access(found["ca_certs"], os.R_OK):
            raise Failed(
                f"no TLS with {address}: {found['ca_certs']} cannot be read: give with ?ca= the "
                "file of the authority"
            )
    return found
