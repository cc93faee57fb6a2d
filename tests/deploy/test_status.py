"""Whether a process is ready right now: what `dync status` asks it."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Iterator

import pytest

from compiler.deploy.status.status import _is_ready
from compiler.process import Protocol, Ready

STATUS = {"/health": 200, "/v1/completions": 405, "/with/a/key": 401, "/loading": 503, "/no": 404}


class Engine(http.server.BaseHTTPRequestHandler):
    """Answer a GET by its path."""

    def do_GET(self) -> None:
        self.send_response(STATUS[self.path])
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Engine)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("path", "body", "is_ready"),
    [
        ("/health", "", True),
        ("/loading", "", False),
        ("/v1/completions", "", False),
        ("/v1/completions", "{}", True),
        ("/with/a/key", "{}", True),
        ("/with/a/key", "", False),
        ("/loading", "{}", False),
        ("/no", "{}", False),
    ],
)
def test_what_counts_as_an_answer(port: int, path: str, body: str, is_ready: bool) -> None:
    url = f"http://127.0.0.1:{port}{path}"
    ready = Ready(url=url, host="127.0.0.1", port=port, path=path, body=body, timeout_s=9)
    assert _is_ready(ready) is is_ready


def test_nobody_there() -> None:
    url = "http://127.0.0.1:1/health"
    assert not _is_ready(Ready(url=url, host="127.0.0.1", port=1, path="/health", timeout_s=9))


@pytest.mark.parametrize(
    ("answer", "is_ready"),
    [(b"+PONG", True), (b"-NOAUTH Authentication required.", True), (b"-LOADING", False)],
)
def test_a_redis_is_asked_by_its_own_protocol(answer: bytes, is_ready: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                assert connection.recv(100) == b"*1\r\n$4\r\nPING\r\n"
                connection.sendall(answer + b"\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"redis://127.0.0.1:{port}"
        ready = Ready(
            url=url, host="127.0.0.1", port=port, path="", protocol=Protocol.REDIS, timeout_s=9
        )
        assert _is_ready(ready) is is_ready
        thread.join()
    assert not _is_ready(ready)
