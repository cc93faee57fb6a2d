"""A small server to stand behind the proxy: it tells what it was asked, streams, upgrades."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BETWEEN_S = 0.4
"""How long a stream waits before each of its events but the first."""


@dataclass
class Asked:
    """One request as it came."""

    line: str
    headers: list[tuple[str, str]]
    body: bytes = b""

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name]


@dataclass
class Upstream:
    """What a server was asked so far, the requests for its health apart."""

    port: int
    asked: list[Asked] = field(default_factory=list)
    health: list[Asked] = field(default_factory=list)
    is_healthy: bool = True


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    seen: Upstream

    def handle_one_request(self) -> None:
        self.close_connection = True
        if not (line := self.rfile.readline(65536)):
            return
        self.raw_requestline = line
        if not self.parse_request():
            return
        asked = Asked(self.requestline, list(self.headers.items()))
        (self.seen.health if self.path == "/health" else self.seen.asked).append(asked)
        if self.headers.get("upgrade") == "websocket":
            self._upgrade()
            return
        asked.body = self._body()
        if self.path == "/health" and not self.seen.is_healthy:
            self.send_error(503, "instances: 10.0.0.1")
            return
        if self.path == "/v1/stream":
            self._stream()
            return
        if self.path == "/v1/slow":
            time.sleep(2)
        self._json({"path": self.path, "got": len(asked.body)})

    def _json(self, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _body(self) -> bytes:
        if self.headers.get("transfer-encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline() or b"0", 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("content-length", 0)))

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for number in range(4):
            time.sleep(BETWEEN_S if number else 0)
            event = f"data: {number}\n\n".encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
        self.wfile.write(b"0\r\n\r\n")

    def _upgrade(self) -> None:
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "upgrade")
        self.end_headers()
        while data := self.connection.recv(1024):
            self.connection.sendall(data[::-1])

    def log_message(self, *_: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """Say nothing of requests that the proxy gave up, as it must."""


@contextmanager
def upstream(port: int) -> Iterator[Upstream]:
    """Serve on a port of loopback."""
    seen = Upstream(port)
    handler = type("Handler", (_Handler,), {"seen": seen})
    server = _Server(("127.0.0.1", port), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
