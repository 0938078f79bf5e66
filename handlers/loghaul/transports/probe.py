"""Asks what stands behind a host and port, so that an error can be one clear sentence.

A client of Kafka that meets a web server, or TLS where it expects none, waits for half a minute and
then says "unable to bootstrap". Here one request of Kafka's protocol is sent by hand (ApiVersions,
which every broker answers to everyone), then the credentials are tried.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import struct
from typing import Optional

from loghaul.errors import TransportError, TransportRefused
from loghaul.transports.address import Address

SECONDS, AGAIN_SECONDS = 5.0, 1.0
#: A broker that is going down or coming up hangs up too: so often, and with such pauses, one must
#: hang up before it is taken for something else.
TRIES, PAUSE_SECONDS = 5, 0.7
#: length, API 18 (ApiVersions), version 0, correlation id, client id "loghaul"
_REQUEST = struct.pack(">ihhih7s", 17, 18, 0, 0x6C6F6768, 7, b"loghaul")


class HungUp(TransportRefused):
    """The connection was ended without a reason."""


async def probe(address: Address) -> None:
    """Return when one of the hosts is a broker that lets us in.

    Raises TransportRefused where that needs a change, TransportError where no host answers.
    """
    for left in reversed(range(TRIES)):
        try:
            return await _try(address)
        except HungUp:
            if not left:
                raise
            await asyncio.sleep(PAUSE_SECONDS)


async def _try(address: Address) -> None:
    context = address.context() if address.tls else None
    failures: list[TransportError] = []
    for host, port in address.hosts:
        try:
            await _greet(address, host, port, context)
            try:
                await _log_in(address, host, port)
            except TransportRefused:
                # A broker that is just ending or starting shuts the door on everyone.
                await asyncio.sleep(AGAIN_SECONDS)
                await _log_in(address, host, port)
            return
        except TransportError as error:
            failures.append(error)
    refused = [error for error in failures if error.permanent]
    raise (refused or failures)[0]


async def _greet(address: Address, host: str, port: int, context: Optional[ssl.SSLContext]) -> None:
    place = f"{host}:{port}"
    try:
        reply = await asyncio.wait_for(_ask(host, port, context), SECONDS)
    except ssl.SSLCertVerificationError as error:
        raise TransportRefused(
            f"the certificate of {place} is not trusted: {error.verify_message}; give its "
            "authority with ?ca=/path.pem"
        ) from error
    except ssl.SSLError as error:
        raise TransportRefused(_no_tls(address, place, error)) from error
    except asyncio.TimeoutError as error:
        raise TransportError(f"{place} does not answer within {SECONDS:g} s") from error
    except ConnectionResetError as error:
        if address.tls:
            # A broker takes the beginning of TLS for a request that is far too long.
            raise HungUp(
                f"{place} ended the connection at the beginning of TLS: write kafka:// instead of "
                "kafkas:// if it is meant to be open"
            ) from error
        raise TransportError(f"{place} ended the connection") from error
    except OSError as error:
        raise TransportError(f"{place} cannot be reached: {_why(error)}") from error
    _judge(place, reply, address.tls)


def _no_tls(address: Address, place: str, error: ssl.SSLError) -> str:
    """Say why there is no TLS; the other end tells by an alert what it thinks of certificates."""
    if "CERTIFICATE" in (error.reason or ""):
        if not address.cert:
            return f"{place} wants a certificate of yours: give it with ?cert= and ?key="
        return f"{place} does not take the certificate {address.cert} ({error.reason})"
    return (
        f"{place} does not speak TLS as asked ({error.reason or error}): write kafka:// instead of "
        "kafkas:// if it is meant to be open"
    )


async def _ask(host: str, port: int, context: Optional[ssl.SSLContext]) -> bytes:
    reader, writer = await asyncio.open_connection(
        host, port, ssl=context, server_hostname=host if context else None
    )
    try:
        writer.write(_REQUEST)
        await writer.drain()
        try:
            return await asyncio.wait_for(reader.readexactly(8), SECONDS / 2)
        except asyncio.TimeoutError:
            # A web server waits for the end of a line.
            writer.write(b"\r\n\r\n")
            return await reader.readexactly(8)
    except asyncio.IncompleteReadError as error:
        return error.partial
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


def _judge(place: str, reply: bytes, tls: bool) -> None:
    if len(reply) == 8 and reply[4:] == _REQUEST[8:12]:
        return
    if reply.startswith((b"HTTP", b"<")):
        raise TransportRefused(f"{place} is a web server, not Kafka: check host and port")
    if not tls and (not reply or reply[:2] == b"\x15\x03"):
        raise HungUp(
            f"{place} ended the connection at Kafka's first request: it is no broker, or it wants "
            "TLS (write kafkas:// instead of kafka://)"
        )
    raise TransportRefused(f"{place} is not Kafka: check host and port")


async def _log_in(address: Address, host: str, port: int) -> None:
    """Connect as the client will, with the credentials."""
    from aiokafka import errors
    from aiokafka.conn import create_conn
    from aiokafka.protocol.metadata import MetadataRequest

    arguments = address.client()
    del arguments["bootstrap_servers"]
    place = f"{host}:{port}"
    # A class since aiokafka 0.13, a list of versions before.
    request = MetadataRequest([]) if callable(MetadataRequest) else MetadataRequest[0]([])
    connection = None
    try:
        connection = await asyncio.wait_for(
            create_conn(host, port, request_timeout_ms=int(SECONDS * 1000), **arguments), SECONDS
        )
        # Who has to log in and did not is only told at the first real request.
        await asyncio.wait_for(connection.send(request), SECONDS)
    except errors.KafkaError as error:
        raise _refusal(address, place, error) from error
    except (OSError, asyncio.TimeoutError) as error:
        if address.user is not None:
            raise TransportRefused(f"{place} does not let {address.user!r} in") from error
        raise TransportError(f"{place} cannot be reached: {_why(error)}") from error
    finally:
        if connection is not None:
            connection.close()


def _refusal(address: Address, place: str, error: Exception) -> TransportError:
    name = type(error).__name__
    if "UnsupportedSaslMechanism" in name:
        return TransportRefused(
            f"{place} does not take {address.mechanism}: choose another with ?mechanism="
        )
    if "Authentication" in name or "Sasl" in name or "IllegalSasl" in name:
        return TransportRefused(
            f"{place} does not let {address.user!r} in with {address.mechanism}: "
            "user, password or mechanism is wrong, or this port takes nobody's"
        )
    if address.user is None:
        return HungUp(f"{place} ended the connection ({name}): it may want a user and a password")
    return TransportError(f"{place} cannot be used: {name}: {error}")


def _why(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno and error.errno > 0:
        return os.strerror(error.errno)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
