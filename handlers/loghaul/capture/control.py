"""What guard and pump tell each other: JSON packets over a socket pair, some with descriptors.

A packet from pump to guard need not be read: while it waits, the kernel holds its descriptors for
the guard, so they outlive the pump.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Sequence
from typing import Any, Optional

_MAX_BYTES = 200_000
_MAX_DESCRIPTORS = 16


def pair() -> tuple[socket.socket, socket.socket]:
    """Return (guard's end, pump's end); neither blocks."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in ends:
        end.setblocking(False)
    return ends


def send(end: socket.socket, packet: dict[str, Any], descriptors: Sequence[int] = ()) -> bool:
    """Send a packet; False when the other side is gone or does not read."""
    try:
        socket.send_fds(end, [json.dumps(packet).encode()], list(descriptors))
    except OSError:
        return False
    return True


def receive(end: socket.socket) -> Optional[tuple[dict[str, Any], list[int]]]:
    """Return the next packet and its descriptors; ({}, []) when none waits, None at the end."""
    try:
        data, descriptors, _, _ = socket.recv_fds(end, _MAX_BYTES, _MAX_DESCRIPTORS)
    except BlockingIOError:
        return {}, []
    except OSError:
        return None
    if not data:
        return None
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    return json.loads(data), list(descriptors)
