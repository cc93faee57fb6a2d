"""Another account of this machine: it listens on a port, answers, and notes what it is told."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

ACCOUNT, UID = "nobody", 65534
HTTP_200 = "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}"
HTTP_401 = "HTTP/1.0 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"
PONG = "+PONG\r\n+OK\r\n+PONG\r\n"
NOAUTH = "-NOAUTH Authentication required.\r\n+OK\r\n+PONG\r\n"
ANSWERS = {"200": HTTP_200, "401": HTTP_401, "pong": PONG, "noauth": NOAUTH, "silent": ""}
_CODE = """
import selectors, socket, sys
host, port, answer, place = sys.argv[1], int(sys.argv[2]), sys.argv[3].encode(), sys.argv[4]
kind = socket.AF_INET6 if ":" in host else socket.AF_INET
seen, listener = open(place, "ab", buffering=0), socket.socket(kind)
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind((host, port))
listener.listen(64)
seen.write(b"listening\\n")
chosen = selectors.DefaultSelector()
chosen.register(listener, selectors.EVENT_READ)
while True:
    for key, _ in chosen.select():
        if key.fileobj is listener:
            link, _ = listener.accept()
            link.sendall(answer)
            chosen.register(link, selectors.EVENT_READ)
        else:
            try:
                heard = key.fileobj.recv(65536)
            except OSError:
                heard = b""
            seen.write(heard)
            if not heard:
                chosen.unregister(key.fileobj)
                key.fileobj.close()
"""

needs_root = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None,
    reason="a second account's process is started by root, with setpriv",
)


@dataclass
class Stranger:
    """Somebody who listens."""

    pid: int
    place: Path
    address: tuple[str, int]

    @property
    def heard(self) -> str:
        """Return all that was sent to it until now.

        It reads its connections in turns, so that all that was sent before is noted within two
        rounds of a connection made after it.
        """
        for _ in range(2):
            with socket.create_connection(self.address, 30) as link:
                link.shutdown(socket.SHUT_WR)
                while link.recv(65536):
                    pass
        return self.place.read_text("utf-8", "replace").removeprefix("listening\n")


@contextmanager
def stranger(port: int, answer: str, host: str = "127.0.0.1", uid: int = UID) -> Iterator[Stranger]:
    """Listen as another account until the end."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chmod(folder, 0o755)
        place = Path(folder) / "heard"
        place.touch()
        os.chown(place, uid, uid)
        become = ("setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--")
        python = "/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable
        words = (python, "-I", "-S", "-c", _CODE, host, str(port), ANSWERS[answer], str(place))
        with subprocess.Popen([*become, *words], stdin=subprocess.DEVNULL, cwd="/") as process:
            try:
                give_up = time.monotonic() + 30
                while not place.read_bytes():
                    assert process.poll() is None, "it cannot listen"
                    assert time.monotonic() < give_up
                    time.sleep(0.01)
                yield Stranger(process.pid, place, (host, port))
            finally:
                process.kill()
