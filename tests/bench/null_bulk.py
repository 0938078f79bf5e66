"""A bulk endpoint that takes everything and keeps nothing, for what feeds OpenSearch.

Bodies of `_bulk` are answered as OpenSearch answers when it has taken all of them; every other
request (templates, what a stream holds) and small bodies (facts of streams) go to the real node
behind it, so that a worker can start. `lean` leaves the items out of the answer: a client that
reads them spends much of its time on that.

    with served(node, lean=False) as null:
        null.port, null.items()     # documents taken so far
"""

from __future__ import annotations

import http.client
import http.server
import multiprocessing
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

#: Smaller bodies are facts of streams, which a worker reads again.
SMALL_BYTES = 16 * 1024
_ITEM = (
    b'{"index":{"_index":"lines","_id":"%020d","_version":1,"result":"created","_shards":'
    b'{"total":1,"successful":1,"failed":0},"_seq_no":%d,"_primary_term":1,"status":201}}'
)
_FORK = multiprocessing.get_context("fork")


class Null(NamedTuple):
    """Where it listens, and what it has taken."""

    port: int
    taken: Any

    def items(self) -> int:
        return int(self.taken.value)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    node, lean, taken = "", False, _FORK.Value("q", 0)

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        path = self.path.partition("?")[0]
        if path.endswith("_bulk") and (len(body) > SMALL_BYTES or "index" in body[:20].decode()):
            return self._taken(body)
        return self._passed(body)

    do_GET = do_HEAD = do_PUT = do_DELETE = do_POST

    def _taken(self, body: bytes) -> None:
        count = body.count(b"\n") // 2
        with self.taken.get_lock():
            first = self.taken.value
            self.taken.value += count
        if "filter_path" in self.path:
            items = b",".join([b'{"create":{"status":201}}'] * count)
        else:
            items = b"" if self.lean else b",".join(_ITEM % (n, n) for n in _span(first, count))
        self._answer(200, b'{"took":9,"errors":false,"items":[' + items + b"]}")

    def _passed(self, body: bytes) -> None:
        connection = http.client.HTTPConnection(self.node, timeout=60)
        kind = {"content-type": self.headers.get("content-type", "application/json")}
        connection.request(self.command, self.path, body or None, kind)
        reply = connection.getresponse()
        self._answer(reply.status, reply.read())
        connection.close()

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _span(first: int, count: int) -> range:
    return range(first, first + count)


@contextmanager
def served(node: str, lean: bool = False) -> Iterator[Null]:
    """Serve from a process of its own, before the node at HOST:PORT."""
    taken = _FORK.Value("q", 0)
    handler = type("Handler", (_Handler,), {"node": node, "lean": lean, "taken": taken})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    process = _FORK.Process(target=server.serve_forever, daemon=True)
    process.start()
    try:
        yield Null(server.server_port, taken)
    finally:
        process.kill()
        process.join()
        server.server_close()
