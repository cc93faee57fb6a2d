"""What goes through the proxy goes as it came: streams, large bodies, upgrades."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import threading
import time
import urllib.error
import warnings
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from compiler.addresses import reachable
from compiler.deploy.probe.http_client import NO_ANSWER, Access, posted, said
from compiler.deploy.probe.sockets import Owner, Ownership
from tests.proxy.conftest import (
    KEY,
    Front,
    everything,
    front,
    make_certificate,
    needs_nginx,
    start,
    status_of,
    stop,
    until_it_listens,
)
from tests.proxy.upstream import BETWEEN_S

pytestmark = needs_nginx
GOOD = f"Authorization: Bearer {KEY}"
MIB = 1 << 20


def request(target: str, *headers: str, method: str = "POST") -> bytes:
    lines = (f"{method} {target} HTTP/1.1", "Host: a", GOOD, "Connection: close", *headers)
    return "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n"


def test_events_come_one_by_one(running: Front) -> None:
    begun, at = time.monotonic(), list[float]()
    with running.connect() as connection:
        connection.sendall(request("/v1/stream", method="GET"))
        text = b""
        while data := connection.recv(65536):
            text += data
            while len(at) < text.count(b"data: "):
                at.append(time.monotonic() - begun)
    assert len(at) == 4
    assert at[0] < BETWEEN_S
    assert all(later - earlier > BETWEEN_S / 2 for earlier, later in pairwise(at))


def test_who_takes_long_to_begin_is_waited_for(running: Front) -> None:
    assert running.status("/v1/slow", GOOD) == 200


@pytest.mark.parametrize("is_chunked", [False, True])
@pytest.mark.parametrize(("size", "status"), [(MIB, 200), (MIB + 1, 413), (3 * MIB, 413)])
def test_a_body_is_bounded_however_it_is_sent(
    running: Front, is_chunked: bool, size: int, status: int
) -> None:
    if is_chunked:
        head = request("/v1/completions", "Transfer-Encoding: chunked")
        parts = [b"x" * 65536] * (size // 65536) + [b"x" * (size % 65536)]
        body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts if part)
        body += b"0\r\n\r\n"
    else:
        head, body = request("/v1/completions", f"Content-Length: {size}"), b"x" * size
    answer = b""
    with running.connect() as connection:
        sender = threading.Thread(target=_send, args=(connection, head + body))
        sender.start()
        answer = everything(connection)
        sender.join()
    assert status_of(answer) == status, answer[:300]
    said = json.loads(answer.partition(b"\r\n\r\n")[2])
    if status == 200:
        assert said["got"] == size
    else:
        assert said["error"]["code"] == "request_too_large"


def _send(connection: socket.socket, data: bytes) -> None:
    with suppress(OSError):  # refused before its end
        connection.sendall(data)


def test_a_websocket_is_passed_with_the_key_alone(running: Front) -> None:
    lines = ("Upgrade: websocket", "Sec-WebSocket-Key: AAAA", "Sec-WebSocket-Version: 13")
    assert running.status("/v1/realtime", *lines) == 401
    head = request("/v1/realtime", *lines, method="GET").replace(
        b"Connection: close", b"Connection: Upgrade"
    )
    with running.connect() as connection:
        connection.sendall(head)
        assert connection.recv(65536).startswith(b"HTTP/1.1 101")
        connection.sendall(b"abc")
        assert connection.recv(10) == b"cba"


def test_with_workers_that_ask_too_the_key_goes_on_once(tmp_path: Path) -> None:
    with front(tmp_path, topology="agg") as found:
        assert found.status("/v1/models", GOOD, "Authorization: Bearer other") in (200, 400)
        assert found.status("/v1/models", GOOD) == 200
        for asked in found.behind.asked:
            assert asked.values("authorization") == [f"Bearer {KEY}"]


def test_nothing_that_others_can_read_holds_the_key_or_tls_key(tmp_path: Path) -> None:
    certificate, tls_key = make_certificate(tmp_path)
    options = (f"frontend.tls.certificate={certificate}", f"frontend.tls.key={tls_key}")
    with front(tmp_path, *options) as found:
        assert found.status("/v1/models", GOOD) == 200
        secret = [KEY.encode(), tls_key.read_bytes().splitlines()[1]]
        secret.append("".join(f"\\x{byte:02x}" for byte in KEY.encode()).encode())
        for path in found.bundle.rglob("*"):
            if path.is_file():
                assert not any(text in path.read_bytes() for text in secret), path
        seen = 0
        for folder in Path("/proc").iterdir():
            try:
                if int((folder / "stat").read_text().rpartition(")")[2].split()[3]) != (
                    found.process.pid
                ):
                    continue
                texts = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
            except (OSError, ValueError):
                continue
            seen += 1
            assert not any(text in texts for text in secret), folder
        assert seen > 2
        assert (found.bundle / "run/proxy").stat().st_mode & 0o077 == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts workers of another account")
def test_started_by_root_no_other_account_reads_the_keys_in_memory(tmp_path: Path) -> None:
    with front(tmp_path) as found:
        assert found.status("/v1/models", GOOD) == 200
        workers = [
            process
            for process in psutil.Process(found.process.pid).children(recursive=True)
            if "nginx" in process.name()
        ]
        assert len(workers) > 2
        for process in workers:
            assert process.uids() == (0, 0, 0), process
            code = f"open('/proc/{process.pid}/mem', 'rb')"
            as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"]
            done = subprocess.run(
                [*as_nobody, "/usr/bin/python3", "-I", "-c", code],
                cwd="/",
                capture_output=True,
                text=True,
                check=False,
            )
            assert "Permission denied" in done.stderr


def test_a_health_check_asks_for_no_file_and_logs_nothing(tmp_path: Path) -> None:
    with front(tmp_path) as found:
        for folder in ("html", "run/proxy/html"):
            (found.bundle / folder).mkdir(parents=True)
            for name in ("health", "healthy", "dync-health"):
                (found.bundle / folder / name).write_text("planted")
        for method in ("GET", "HEAD"):
            assert found.status("/health", method=method) == 200
        answer = found.ask("/health")
        assert answer.endswith(b"\r\n\r\nhealthy\n")
        assert found.status("/health", GOOD, method="POST") == 200
        assert "crit" not in found.log.read_text()
        assert "error" not in found.log.read_text()


def test_tls_shows_the_certificate_and_speaks_nothing_old(tmp_path: Path) -> None:
    certificate, tls_key = make_certificate(tmp_path)
    options = (f"frontend.tls.certificate={certificate}", f"frontend.tls.key={tls_key}")
    with front(tmp_path, *options) as found:
        assert found.status("/invocations") == 401
        assert found.status("/health") == 200
        assert found.status("/v1/models", GOOD) == 200
        assert found.behind.asked[-1].values("x-forwarded-proto") == ["https"]
        with found.connect() as connection:
            assert isinstance(connection, ssl.SSLSocket)
            assert connection.version() == "TLSv1.3"
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        old.set_ciphers("ALL:@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            old.minimum_version = ssl.TLSVersion.TLSv1
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        refused = pytest.raises((ssl.SSLError, ConnectionResetError))
        with socket.create_connection(("127.0.0.1", found.port)) as plain, refused:
            old.wrap_socket(plain)
        with socket.create_connection(("127.0.0.1", found.port)) as plain:
            plain.sendall(request("/v1/models", method="GET"))
            assert status_of(everything(plain)) == 400


def test_who_is_not_healthy_is_said_so_in_three_words(running: Front) -> None:
    running.behind.is_healthy = False
    answer = running.ask("/health")
    running.behind.is_healthy = True
    assert status_of(answer) == 503
    assert b"instances" not in answer
    assert running.status("/health") == 200


def test_without_a_key_on_the_network_requests_are_bounded(tmp_path: Path) -> None:
    options = ("frontend.host=0.0.0.0", "frontend.allow_unauthenticated=true")
    with front(tmp_path, *options, "frontend.max_request_mb=1", key="") as found:
        assert found.plan.api_key_file == ""
        assert found.status("/v1/models") == found.status("/health") == 200
        assert found.behind.asked[-1].values("host") == ["front.example"]
        head = request("/v1/completions", f"Content-Length: {2 * MIB}")
        assert status_of(found.send(head)) == 413


def test_nothing_behind_is_said_so(tmp_path: Path) -> None:
    with front(tmp_path) as found:
        pass
    # The server behind has ended with the block; the proxy is started again alone.
    process = start(found.bundle, found.log)
    try:
        until_it_listens(process, found.port, found.log)
        answer = found.ask("/v1/models", GOOD)
        assert status_of(answer) == 502
        assert b'"code": "no_answer"' in answer
        answer = found.ask("/health")
        assert status_of(answer) == 503
        assert answer.endswith(b"not healthy\n")
    finally:
        stop(process)


def test_stopping_finishes_what_runs_and_takes_nothing_new(tmp_path: Path) -> None:
    with front(tmp_path) as found:
        with found.connect() as connection:
            connection.sendall(request("/v1/stream", method="GET"))
            text = connection.recv(65536)
            found.process.terminate()
            time.sleep(BETWEEN_S)
            with pytest.raises(ConnectionRefusedError):
                found.connect()
            text += everything(connection)
        assert text.count(b"data: ") == 4
        assert found.process.wait(20) == 0


@pytest.mark.parametrize("drain_s", [0, 1])
def test_a_request_without_end_is_closed_when_the_time_is_over(
    drain_s: int, tmp_path: Path
) -> None:
    options = f"deploy.drain_s={drain_s}"
    with front(tmp_path, options) as found, found.connect() as connection:
        connection.sendall(request("/v1/realtime", "Upgrade: websocket", method="GET"))
        assert connection.recv(65536)
        begun = time.monotonic()
        assert stop(found.process) == 0
        assert time.monotonic() - begun < 10


def test_who_never_ends_the_headers_is_let_go(running: Front) -> None:
    begun = time.monotonic()
    with running.connect() as connection:
        connection.settimeout(60)
        connection.sendall(b"GET / HTTP/1.1\r\n")
        assert status_of(everything(connection) or b"HTTP/1.1 408") == 408
    assert 15 < time.monotonic() - begun < 50


def told(found: Front, certificate: Path) -> bytes:
    body, proxy = {"prompt": "x"}, found.plan.entry.listens[0]
    owner = Owner(uids=frozenset({os.geteuid()}), is_own=lambda _pid: True)
    access = Access(key=KEY, own=Ownership({(reachable(proxy.host), proxy.port): owner}))
    with posted(f"{found.plan.url}/completions", body, access, 30, str(certificate)) as lines:
        return b"".join(lines)


def test_dync_asks_whom_it_knows_by_the_certificate_alone(tmp_path: Path) -> None:
    """The address is not in it, and who shows another one is sent no key."""
    certificate, tls_key = make_certificate(tmp_path)
    authority, _ = make_certificate(tmp_path, "authority.example")
    other, _ = make_certificate(tmp_path, "other.example")
    leaf = certificate.read_text()
    certificate.write_text(leaf + authority.read_text())  # as a chain lies in its file
    options = (f"frontend.tls.certificate={certificate}", f"frontend.tls.key={tls_key}")
    with front(tmp_path, *options) as found:
        assert b'"path": "/v1/completions"' in told(found, certificate)
        count = len(found.behind.asked)
        with pytest.raises(urllib.error.URLError) as refused:
            told(found, other)
        assert "it does not show the certificate of frontend.tls" in said(refused.value)
        other.write_text(other.read_text() + leaf)  # only the first is the server's own
        with pytest.raises(urllib.error.URLError):
            told(found, other)
        assert len(found.behind.asked) == count
        with pytest.raises(NO_ANSWER):
            told(found, tmp_path / "nowhere")
        other.write_text("nonsense")
        with pytest.raises(NO_ANSWER):
            told(found, other)
