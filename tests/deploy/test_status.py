"""Whether a process is ready right now: what `dync status` asks it."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from compiler.deploy.status import _is_ready
from compiler.plan import Ready

BODY = '{"model": "m", "prompt": [10], "max_tokens": 1}'


class Engine(http.server.BaseHTTPRequestHandler):
    """Answer /health to all, and a completion to those who post one with the key."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/health" else 405)
        self.end_headers()

    def do_POST(self) -> None:
        asked = self.rfile.read(int(self.headers["Content-Length"])).decode()
        known = self.headers.get("Authorization") == "Bearer s3cret"
        self.send_response((200 if asked == BODY else 400) if known else 401)
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
    ("asked", "is_ready"),
    [
        (("/health", "", ""), True),
        (("/v1/completions", "", ""), False),
        (("/v1/completions", BODY, "s3cret\n"), True),
        (("/v1/completions", "{}", "s3cret\n"), False),
        (("/v1/completions", BODY, "another\n"), False),
        (("/v1/completions", BODY, ""), False),
    ],
)
def test_what_it_asks(
    port: int, tmp_path: Path, asked: tuple[str, str, str], is_ready: bool
) -> None:
    path, body, key = asked
    file = tmp_path / "key"
    file.write_text(key)
    url = f"http://127.0.0.1:{port}{path}"
    key_file = str(file) if key else ""
    ready = Ready(
        url=url, host="127.0.0.1", port=port, path=path, body=body, key_file=key_file, timeout_s=9
    )
    assert _is_ready(ready) is is_ready


def test_who_may_not_read_the_key_sees_that_it_is_asked(port: int, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{port}/v1/completions"
    ready = Ready(
        url=url,
        host="127.0.0.1",
        port=port,
        path="/v1/completions",
        body=BODY,
        key_file=str(tmp_path / "not" / "there"),
        timeout_s=9,
    )
    assert _is_ready(ready)


def test_nobody_there() -> None:
    ready = Ready(
        url="http://127.0.0.1:1/health", host="127.0.0.1", port=1, path="/health", timeout_s=9
    )
    assert not _is_ready(ready)
