"""Where an OpenSearch store is: what stands behind the scheme of its DSN.

    [user:password@]host[:port][,host[:port]...][/prefix][?option=value&...]

    fresh_seconds     how old what a reader shows may be (default 1; 0: asked for anew each time)
    timeout_seconds   how long an answer is waited for (default 30)
    shards, replicas  of indices made from now on (default 1; one replica where there are two nodes)
    ca                file with the certificates to trust, for opensearch+https
    verify            "no": take any certificate, for opensearch+https

User and password are percent-encoded where they hold one of `:@/?#,%`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote

from loghaul_ingest.errors import UsageError

DEFAULT_PORT = 9200
DEFAULT_PREFIX = "loghaul"
_EXAMPLE = "opensearch://user:password@host:9200/loghaul"
_PREFIX = re.compile(r"[a-z0-9][a-z0-9_.-]{0,99}")
_OPTIONS = {
    "fresh_seconds": float,
    "timeout_seconds": float,
    "shards": int,
    "replicas": int,
    "ca": str,
    "verify": str,
}


@dataclass(frozen=True)
class Address:
    """Hosts, prefix of the indices, and how to connect. Its text never shows the password."""

    hosts: tuple[tuple[str, int], ...]
    prefix: str = DEFAULT_PREFIX
    tls: bool = False
    user: str | None = None
    password: str = field(default="", repr=False)
    options: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return ",".join(f"{host}:{port}" for host, port in self.hosts)

    @property
    def fresh_seconds(self) -> float:
        """How old a reader's view may be."""
        return float(self.options.get("fresh_seconds", 1.0))

    @property
    def timeout_seconds(self) -> float:
        """How long an answer is waited for."""
        return float(self.options.get("timeout_seconds", 30.0))


def parse(rest: str, tls: bool = False) -> Address:
    """Return the address. Raises UsageError, without the password, when it makes no sense."""
    place, _, query = rest.partition("?")
    place, _, prefix = place.partition("/")
    credentials, at, hosts = place.rpartition("@")
    user, _, password = credentials.partition(":")
    prefix = prefix.strip("/") or DEFAULT_PREFIX
    if not _PREFIX.fullmatch(prefix):
        raise UsageError(
            f"{prefix!r} cannot begin the names of indices: lower case letters, digits, '_', '-' "
            f"and '.' are allowed, such as {_EXAMPLE}"
        )
    return Address(
        tuple(_host(part) for part in hosts.split(",")),
        prefix,
        tls,
        unquote(user) if at else None,
        unquote(password),
        dict(_option(*pair) for pair in parse_qsl(query, keep_blank_values=True)),
    )


def _host(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, str(DEFAULT_PORT)
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise UsageError(f"{text!r} is no host and port: a store is named as {_EXAMPLE}")
    return host, int(port)


def _option(name: str, value: str) -> tuple[str, Any]:
    if name not in _OPTIONS:
        raise UsageError(f"an OpenSearch store has no option {name!r}: {', '.join(_OPTIONS)}")
    try:
        return name, _OPTIONS[name](value)
    except ValueError:
        raise UsageError(f"{name}={value!r} is no number") from None
