"""`python -m bench.cluster.app NAME INDEX ADDRESS PORT FILE`: an instance that says who it is and gives the token back.

The token of each POST is a line more in FILE: who finds one twice there knows that a request was executed twice.
Python's own library only, so that twenty of them start in no time. It knows nothing of routers.
"""

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    """Any method, any path."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    about: dict[str, object] = {}
    executed: int
    """Descriptor."""

    def answer(self) -> None:
        """Body of the request and `X-Token` come back."""
        given = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        told = {**self.about, "path": self.path, "token": self.headers.get("X-Token"), "body": given.decode()}
        body = json.dumps(told).encode() + b"\n"
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        os.write(self.executed, f"{self.headers.get('X-Token')}\n".encode())
        self.answer()

    do_GET = answer

    def log_message(self, format: str, *args: object) -> None:
        """The routers log every request."""


class Server(ThreadingHTTPServer):
    """A thread a connection."""

    daemon_threads = True
    request_queue_size = 128


if __name__ == "__main__":
    name, index, address, port, file = sys.argv[1:]
    Handler.executed = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    Handler.about = {"app": name, "instance": int(index), "process": os.getpid()}
    Server((address, int(port)), Handler).serve_forever()
