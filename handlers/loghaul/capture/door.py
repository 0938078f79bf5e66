"""The door: where a rank below CMD asks the pump for streams of its own.

A Unix socket in the abstract name space: no path that could be too long, nothing to clean up. Only
processes of the same user are heard. `ranks.redirect` is the other side.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from typing import NamedTuple, Optional

from loghaul.capture.job import driver_log

_PATIENCE_SECONDS = 2.0
_REQUEST_BYTES = 4096


class Request(NamedTuple):
    """What a rank tells of itself, and which of its outputs still are CMD's."""

    rank: int
    local_rank: Optional[int]
    pid: int
    streams: tuple[str, ...]

    @property
    def path(self) -> str:
        """Path of the rank's driver log."""
        return driver_log(self.rank)


def listen(writer: str) -> socket.socket:
    """Return the listening socket of a supervisor's writer."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(address(writer))
    listener.listen(64)
    listener.setblocking(False)
    return listener


def address(writer: str) -> str:
    """Return the address of the door."""
    return f"\0loghaul-{writer}"


def accept(listener: socket.socket) -> Optional[socket.socket]:
    """Return the next caller of this user, or None."""
    try:
        caller, _ = listener.accept()
    except OSError:
        return None
    caller.settimeout(_PATIENCE_SECONDS)
    peer = struct.Struct("3i")
    credentials = caller.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, peer.size)
    if peer.unpack(credentials)[1] != os.getuid():
        caller.close()
        return None
    return caller


def request_of(caller: socket.socket) -> Optional[Request]:
    """Return what the caller asks for; None when that cannot be understood."""
    try:
        asked = json.loads(caller.recv(_REQUEST_BYTES))
        streams = tuple(name for name in asked["streams"] if name in ("stdout", "stderr"))
        local = asked.get("local_rank")
        request = Request(
            int(asked["rank"]), None if local is None else int(local), int(asked["pid"]), streams
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return request if streams and request.rank >= 0 else None


def answer(caller: socket.socket, descriptors: list[int]) -> None:
    """Hand the new outputs over. Raises OSError when the caller has gone."""
    socket.send_fds(caller, [b"{}"], descriptors)
