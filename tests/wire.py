"""A wire in front of a server that behaves as networks do: every byte is the server's, or lost.

    wire = Wire("127.0.0.1:9092")
    with wire.suffering("half open"):
        ...                                # whoever is connected through `wire.place` suffers

The faults, by name:

    reset mid reply    half of some reply comes, then the connection is reset
    reply swallowed    the request was passed on and is carried out; the connection is reset instead
                       of the reply
    late               every reply comes 0.3 s late
    half open          what is connected hears nothing more, for ever; who connects is accepted and
                       hears nothing while this lasts
    narrow             100 kB/s in each direction
"""

import contextlib
import random
import socket
import struct
import threading
import time

FAULTS = ("reset mid reply", "reply swallowed", "late", "half open", "narrow")
LATE_SECONDS, NARROW_BYTES = 0.3, 100_000


class Wire:
    """A server in front of another. `suffered`: how often a fault did something.

    every   one reply in so many is hit by what resets: a connection has to have a chance to do
            something between two of them
    """

    def __init__(self, target, every, seed=1):
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._random, self._every = random.Random(seed), every
        self._fault, self.suffered = None, 0
        self._pairs = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.place = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    @contextlib.contextmanager
    def suffering(self, fault):
        """Let a fault happen for a while."""
        assert fault in FAULTS
        self._fault = fault
        if fault == "half open":
            for pair in self._pairs:
                pair.dead = True
                self.suffered += not pair.over
        try:
            yield
        finally:
            self._fault = None

    def close(self):
        """End it, and what is connected."""
        # Closing alone does not wake the thread that accepts.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for pair in self._pairs:
            pair.reset()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._target, 5)
                server.settimeout(None)
            except OSError:
                client.close()
                continue
            pair = _Pair(client, server, dead=self._fault == "half open")
            self.suffered += pair.dead
            self._pairs = [one for one in self._pairs if not one.over] + [pair]
            for way in ((client, server, False), (server, client, True)):
                threading.Thread(target=self._carry, args=(pair, *way), daemon=True).start()

    def _carry(self, pair, source, target, reply):
        """Carry bytes one way until an end."""
        try:
            while data := source.recv(65536):
                if not pair.dead and not self._suffer(pair, target, data, reply):
                    target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pair.reset()

    def _suffer(self, pair, target, data, reply):
        """Do what the fault does; whether the bytes went their way, or none."""
        if self._fault == "narrow":
            self.suffered += 1
            for start in range(0, len(data), 10_000):
                time.sleep(len(data[start : start + 10_000]) / NARROW_BYTES)
                target.sendall(data[start : start + 10_000])
            return True
        if self._fault == "late" and reply:
            self.suffered += 1
            time.sleep(LATE_SECONDS)
        elif reply and self._resets():
            self.suffered += 1
            if self._fault == "reset mid reply":
                target.sendall(data[: len(data) // 2])
            pair.reset()
            return True
        return False

    def _resets(self):
        fault = self._fault in ("reset mid reply", "reply swallowed")
        return fault and self._random.randrange(self._every) == 0


class _Pair:
    """A connection, both halves of it. `dead`: nothing passes any more."""

    def __init__(self, client, server, dead):
        self.client, self.server, self.dead, self.over = client, server, dead, False

    def reset(self):
        """End both halves with a reset, not in order."""
        self.over = True
        for one in (self.client, self.server):
            with contextlib.suppress(OSError):
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            # Closing alone does not wake the thread that reads.
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RD)
            one.close()
