"""The small service on loopback that train.py talks to. Prints its address, then serves.

python service.py
"""

import http.server
import json

FEATURES = ["age", "sex", "bmi", "bp", "tc", "ldl", "hdl", "tch", "ltg", "glu"]


class Service(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.reply(200, FEATURES)

    def do_PUT(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.reply(201, {"stored": True})

    def reply(self, status, document):
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *values):
        pass


if __name__ == "__main__":
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
