"""Start the proxy of a built bundle, nginx itself, before a small server."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from compiler.emit.bundle import emit
from compiler.library import templates
from compiler.plan import Plan
from compiler.process import Process
from tests.proxy.upstream import Upstream, upstream
from tests.support import AGG, DISAGG, free_ports, plan_of

KEY = "Sk-\"a$b\\c(.*)+? z{}|^'~"
HAS_NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin") is not None
needs_nginx = pytest.mark.skipif(not HAS_NGINX, reason="needs nginx")


@dataclass(frozen=True, kw_only=True)
class Front:
    """A proxy that runs: raw requests to it, and what came through."""

    plan: Plan
    bundle: Path
    behind: Upstream
    process: subprocess.Popen[bytes]
    log: Path
    certificate: Path | None = None

    @property
    def port(self) -> int:
        return entry(self.plan).listens[0].port

    def connect(self) -> socket.socket:
        found = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        if self.certificate is None:
            return found
        context = ssl.create_default_context(cafile=str(self.certificate))
        return context.wrap_socket(found, server_hostname="front.example")

    def send(self, request: bytes) -> bytes:
        """Return everything that is answered to bytes, until the proxy hangs up."""
        with self.connect() as connection:
            connection.sendall(request)
            return everything(connection)

    def ask(
        self, target: str = "/v1/models", *headers: str, method: str = "GET", body: bytes = b""
    ) -> bytes:
        """Ask once, with these headers and no key but what is among them."""
        lines = [f"{method} {target} HTTP/1.1", "Host: front.example", "Connection: close"]
        lines += [f"Content-Length: {len(body)}"] if body else []
        head = "".join(f"{line}\r\n" for line in (*lines, *headers)).encode("latin-1")
        return self.send(head + b"\r\n" + body)

    def status(self, target: str = "/v1/models", *headers: str, **more: str) -> int:
        return status_of(self.ask(target, *headers, **more))  # type: ignore[arg-type]


def entry(plan: Plan) -> Process:
    assert plan.proxy is not None
    return plan.proxy


def everything(connection: socket.socket) -> bytes:
    parts = []
    try:
        while data := connection.recv(65536):
            parts.append(data)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/") else 0


def write_bundle(folder: Path, plan: Plan) -> Path:
    for artifact in emit(plan, templates()):
        path = folder / artifact.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(artifact.text, "utf-8")
    return folder


def start(
    bundle: Path, log: Path, *words: str, env: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a bundle's proxy; words: what starts it instead of bash and its script."""
    with log.open("wb") as out:
        return subprocess.Popen(
            words or ["/bin/bash", str(bundle / "bin/proxy.sh")],
            cwd=bundle,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def until_it_listens(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    give_up = time.monotonic() + 30
    while time.monotonic() < give_up and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
            return
        except OSError:
            time.sleep(0.02)
    raise AssertionError(log.read_text())


@contextmanager
def front(
    folder: Path, *overrides: str, topology: str = "disagg", key: str = KEY
) -> Iterator[Front]:
    """Run the proxy of a bundle before a small server; key: what its file holds, "" for none."""
    folder.mkdir(exist_ok=True)
    file = folder / "key"
    file.write_text(f"{key}\n", "utf-8")
    file.chmod(0o600)
    port, *inside = free_ports(12)
    # The ports are handed out upwards from one: a stretch that is free is looked for.
    plan = plan_of(
        DISAGG if topology == "disagg" else AGG,
        *((f"frontend.api_key_file={file}",) if key else ()),
        f"frontend.port={port}",
        f"deploy.first_port={_stretch(inside[0])}",
        *overrides,
    )
    bundle, log = write_bundle(folder / "bundle", plan), folder / "proxy.log"
    certificate = Path(plan.certificate_file) if plan.certificate_file else None
    with upstream(plan.api.listens[0].port) as behind:
        process = start(bundle, log)
        try:
            until_it_listens(process, port, log)
            yield Front(
                plan=plan,
                bundle=bundle,
                behind=behind,
                process=process,
                log=log,
                certificate=certificate,
            )
        finally:
            stop(process)


def stop(process: subprocess.Popen[bytes]) -> int:
    """End a proxy as launch.sh does; whatever is left of its session after that is killed."""
    process.terminate()
    try:
        return process.wait(20)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _stretch(first: int) -> int:
    """Return the first of 12 ports in a row that nothing listens on."""
    while True:
        try:
            for port in range(first, first + 12):
                socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            first = port + 1
            continue
        return first


def make_certificate(
    folder: Path, name: str = "front.example", days: int = 30
) -> tuple[Path, Path]:
    """Make a certificate that signs itself, and its key."""
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-nodes", "-days", str(days)),
            *("-pkeyopt", "ec_paramgen_curve:P-256", "-keyout", str(key), "-out", str(certificate)),
            *("-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"),
        ],
        check=True,
        capture_output=True,
    )
    return certificate, key


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """The proxy with a key, in front of prefill and decode."""
    with front(tmp_path_factory.mktemp("front"), "frontend.max_request_mb=1") as found:
        yield found
