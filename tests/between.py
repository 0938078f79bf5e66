"""Between a writer and a real OpenSearch: what it breaks is broken, all else is the engine's.

    with Between("127.0.0.1:9200") as between:
        between.faults = [answer(503, b"")]
        writer = open_writer(between.dsn(store))

A fault is called with (send, body) for one bulk request of blocks, and returns (status, body of the
reply), or None to break off without a reply; `send` passes a body on to the engine.
"""

import http.client
import json
import socket
import threading
from base64 import b64encode
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Between:
    """A server in front of another; `bulks` are the ids of blocks in each bulk that came.

    faults    one for each of the next bulks
    always    a fault for every bulk, when `faults` has none
    known     (user, password) of the only one who is let in; None: everybody is
    context   of TLS, which is spoken then
    """

    def __init__(self, place, known=None, context=None):
        self.place, self.faults, self.always, self.bulks = place, [], None, []
        self.known, self._tls = known, context is not None
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._server.context = context
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()

    def dsn(self, direct, **options):
        """The DSN of a store, to be reached through here."""
        extra = "".join(f"&{name}={value}" for name, value in options.items())
        if self._tls:
            direct = direct.replace("opensearch:", "opensearch+https:")
        return direct.replace(self.place, f"127.0.0.1:{self._server.server_port}") + extra

    def answer(self, method, path, headers, body, said=None):
        """Return (status, body) for a request, or None; `said`: who asks, by the header."""
        if self.known and said != f"Basic {b64encode(':'.join(self.known).encode()).decode()}":
            return 401, b"Unauthorized"

        def send(body=body):
            connection = http.client.HTTPConnection(self.place, timeout=60)
            try:
                connection.request(method, path, body, headers)
                reply = connection.getresponse()
                return reply.status, reply.read()
            finally:
                connection.close()

        if "/_bulk" not in path or b"-blocks-v" not in body[:300]:
            return send()
        self.bulks.append([action["create"]["_id"] for action, _ in documents(body)])
        fault = self.faults.pop(0) if self.faults else self.always
        return fault(send, body) if fault else send()


def documents(body):
    """Return the (action, document) pairs of a bulk request."""
    lines = [json.loads(line) for line in body.split(b"\n")[:-1]]
    return list(zip(lines[::2], lines[1::2], strict=True))


def bulk_of(pairs):
    """Return the bulk request of (action, document) pairs."""
    return b"".join(json.dumps(one).encode() + b"\n" for pair in pairs for one in pair)


def answer(status, body):
    """A fault: the request is not passed on."""
    return lambda send, asked: (status, body)


def break_off(send, body):
    """A fault: the connection is reset, and nothing was passed on."""


class _Server(ThreadingHTTPServer):
    """A server whose threads greet by TLS, so that none that does not greet holds up others."""

    context = None

    def handle_error(self, *_):
        """Who does not trust us says so, and is gone."""

    def finish_request(self, request, client):
        if self.context is None:
            super().finish_request(request, client)
            return
        with self.context.wrap_socket(request, server_side=True) as safe:
            super().finish_request(safe, client)


def _handler(between):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def handle_any(self):
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            kept = {"content-type": self.headers.get("content-type", "application/json")}
            said = self.headers.get("authorization")
            reply = between.answer(self.command, self.path, kept, body, said)
            if reply is None:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            status, raw = reply
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(raw)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(raw)

        def handle(self):
            with suppress(OSError):  # who waited is gone
                super().handle()

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_any

        def log_message(self, *_):
            pass

    return Handler
