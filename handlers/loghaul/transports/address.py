"""A transport's DSN, taken apart.

    kafka://host1,host2:9093/topic                            no encryption
    kafka://user:password@host/topic                          SASL (SCRAM-SHA-512) without TLS
    kafkas://user:password@host/topic?mechanism=PLAIN&ca=/ca.pem

User and password may be percent-encoded. Options: `mechanism` (PLAIN, SCRAM-SHA-256,
SCRAM-SHA-512), `user`, `password_file`, `ca`, `cert` and `key` (files; PEM), `verify` (no: any
certificate), `unsafe` (yes: send also where acknowledged lines may be lost).
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional
from urllib.parse import parse_qsl, unquote

from loghaul.config import Secret, yes
from loghaul.errors import TransportRefused

MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_OPTIONS = ("mechanism", "user", "password_file", "ca", "cert", "key", "verify", "unsafe")
_EXAMPLE = "kafka://host1,host2:9092/topic"


@dataclass(frozen=True)
class Address:
    """Where and how to connect. `hosts`: (name or IP, port)."""

    hosts: tuple[tuple[str, int], ...]
    topic: str
    tls: bool = False
    user: Optional[str] = None
    password: Optional[str] = None
    mechanism: str = "SCRAM-SHA-512"
    ca: Optional[str] = None
    cert: Optional[str] = None
    key: Optional[str] = None
    verify: bool = True
    unsafe: bool = False

    def __repr__(self) -> str:
        return f"<{self}>"

    def __str__(self) -> str:
        scheme = "kafkas" if self.tls else "kafka"
        return f"{scheme}://{','.join(self.servers)}/{self.topic}"

    @property
    def servers(self) -> list[str]:
        """host:port of each."""
        return [f"[{h}]:{p}" if ":" in h else f"{h}:{p}" for h, p in self.hosts]

    def client(self) -> dict[str, Any]:
        """Return the arguments that every client of aiokafka takes. Raises TransportRefused."""
        found: dict[str, Any] = {"bootstrap_servers": self.servers}
        if self.tls:
            found["ssl_context"] = self.context()
        if self.user is not None:
            found["sasl_mechanism"] = self.mechanism
            found["sasl_plain_username"] = self.user
            found["sasl_plain_password"] = self.password or ""
        protocol = ("SASL_" if self.user is not None else "") + ("SSL" if self.tls else "PLAINTEXT")
        return {**found, "security_protocol": protocol}

    def context(self) -> ssl.SSLContext:
        """Return the TLS context. Raises TransportRefused where a file cannot be used."""
        try:
            context = ssl.create_default_context(cafile=self.ca)
            if self.cert:
                context.load_cert_chain(self.cert, self.key)
        except (OSError, ValueError) as error:
            files = ", ".join(file for file in (self.ca, self.cert, self.key) if file)
            raise TransportRefused(
                f"the certificates of {self} cannot be used ({files}): {error}"
            ) from error
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def parse(dsn: str) -> Address:
    """Return what a DSN says. Raises TransportRefused with what is wrong; never shows a secret."""
    shown = Secret(dsn).masked
    try:
        return _parse(dsn)
    except ValueError as error:
        raise TransportRefused(
            f"the transport {shown!r} cannot be used: {error}; it looks like {_EXAMPLE}"
        ) from error


def _parse(dsn: str) -> Address:
    scheme, colon, rest = dsn.partition("://")
    if not colon or scheme not in ("kafka", "kafkas"):
        raise ValueError("it begins with neither kafka:// nor kafkas://")
    # Not urlsplit: of several hosts it takes none in brackets in newer releases of Python.
    place, _, query = rest.partition("?")
    place, _, path = place.partition("/")
    options = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)))
    for name in options:
        if name not in _OPTIONS:
            raise ValueError(f"there is no option {name!r}, only {', '.join(_OPTIONS)}")
    credentials, _, hosts = place.rpartition("@")
    topic = unquote(path.strip("/"))
    if not topic or "/" in topic:
        raise ValueError("a topic is missing behind the hosts" if not topic else "one topic only")
    plain = ("ca", "cert", "key", "user")
    found: dict[str, Any] = {name: options[name] for name in plain if name in options}
    if credentials:
        user, _, password = credentials.partition(":")
        found.update(user=unquote(user), password=unquote(password))
    if "password_file" in options:
        found["password"] = _content(options["password_file"])
    if found.get("user") is not None and not found.get("password"):
        raise ValueError("there is a user and no password")
    if "mechanism" in options:
        found["mechanism"] = options["mechanism"].upper()
        if found["mechanism"] not in MECHANISMS:
            raise ValueError(f"the mechanism is one of {', '.join(MECHANISMS)}")
    for switch in ("verify", "unsafe"):
        if switch in options:
            found[switch] = yes(options[switch])
    return Address(_hosts(hosts), topic, scheme == "kafkas", **found)


def _hosts(text: str) -> tuple[tuple[str, int], ...]:
    found = []
    for word in text.split(","):
        host, colon, port = word.rpartition(":")
        if not colon or (word.count(":") > 1 and "]:" not in word):
            host, colon, port = word, "", ""
        host = host.strip("[] ")
        if not host:
            raise ValueError("a host is missing")
        if colon and not port.isdigit():
            raise ValueError(f"{port!r} is no port")
        found.append((host, int(port) if port else 9092))
    return tuple(found)


def _content(file: str) -> str:
    try:
        return Path(file).read_text().strip()
    except OSError as error:
        raise ValueError(f"password_file {file} cannot be read: {error.strerror}") from error
