"""A tiny HTTP endpoint for those who watch: /metrics, /healthz, /readyz. Nothing else, no logs.

It answers from threads of its own, so that a loop that stands still is reported instead of
leaving the question unanswered. Numbers and reasons only: it needs no authentication, and serves
127.0.0.1 unless told otherwise.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

from loghaul_ingest.errors import IngestError, UsageError

#: A client that says nothing for so long is cut off.
SILENCE_SECONDS = 5.0
TEXT = "text/plain; charset=utf-8"


class Answers(NamedTuple):
    """What the endpoint is asked.

    metrics   () -> (content type, body)
    alive     () -> "" or why not
    ready     () -> "" or why not
    """

    metrics: Callable[[], tuple[str, bytes]]
    alive: Callable[[], str]
    ready: Callable[[], str]


def address(text: str) -> tuple[str, int]:
    """Return (host, port) of `127.0.0.1:9464`, `:9464` (every interface), `[::]:9464`, `9464`.

    Raises UsageError for anything else.
    """
    host, colon, port = text.rpartition(":")
    if not port.isdigit() or int(port) > 65535:
        raise UsageError(f"{text!r} is no address to listen at: HOST:PORT is needed")
    if not colon:
        return "127.0.0.1", int(port)
    return host.strip("[]") or "0.0.0.0", int(port)


class Endpoint:
    """Serves from `start` (port 0: any free one) until `close`."""

    def __init__(self, listen: str, answers: Answers) -> None:
        """Bind. Raises UsageError for no address, IngestError where it cannot be had."""
        place = address(listen)
        try:
            self._server = _Server(place, answers)
        except OSError as error:
            raise IngestError(
                f"cannot listen at {listen}: {error.strerror or error}; choose another --listen"
            ) from error
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True
        )

    def start(self) -> Endpoint:
        """Answer from now on."""
        self._thread.start()
        return self

    def close(self) -> None:
        """Stop answering. Idempotent."""
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> Endpoint:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # The process does not wait for whoever is still reading when it ends.
    block_on_close = False

    def __init__(self, place: tuple[str, int], answers: Answers) -> None:
        self.answers = answers
        if ":" in place[0]:
            import socket

            self.address_family = socket.AF_INET6
        super().__init__(place, _Handler)

    def server_bind(self) -> None:
        """Bind, without the look-up of our own name that HTTPServer does (it can take seconds)."""
        import socketserver

        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is nobody's concern."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = SILENCE_SECONDS
    server_version, sys_version = "loghaul", ""

    def do_GET(self) -> None:
        """Answer a probe or a scrape."""
        answers = self.server.answers
        path = self.path.partition("?")[0]
        if path == "/metrics":
            kind, body = answers.metrics()
            self._reply(200, body, kind)
        elif path in ("/healthz", "/readyz"):
            reason = answers.alive() if path == "/healthz" else answers.ready()
            self._reply(503 if reason else 200, f"{reason or 'ok'}\n".encode())
        else:
            self._reply(404, b"/metrics, /healthz, /readyz\n")

    do_HEAD = do_GET

    def _reply(self, code: int, body: bytes, kind: str = TEXT) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Probes come every few seconds: they are not logged."""
