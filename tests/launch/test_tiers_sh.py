"""The shell parts of storage tiers: folders that are trimmed, servers that are asked."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.launch.conftest import Bundle
from tests.support import ROOT, free_port

LIBRARY = ROOT / "templates" / "lib"
PASSWORD = "p@:w/d %'\"\\\\ ö"


def shell(*words: str, check_only: bool = False) -> subprocess.CompletedProcess[str]:
    code = '. lib/dync.sh; dync_process=lmcache; dync_check_only=$1; "${@:2}"'
    return subprocess.run(
        ["bash", "-c", code, "-", str(int(check_only)), *words],
        cwd=ROOT / "templates",
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def filled(folder: Path, names: list[str]) -> Path:
    (folder / "a b").mkdir(parents=True)
    for age, name in enumerate(names):
        path = folder / "a b" / name
        path.write_bytes(b"x" * 1000)
        os.utime(path, (1_000_000 + age, 1_000_000 + age))
    return folder


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


def test_the_oldest_files_go_and_others_stay(tmp_path: Path) -> None:
    folder = filled(tmp_path / "it's 100% $HOME", ["m@1.data", "m@2\n.data", "m@3.data", "note"])
    done = shell("dync_folder", str(folder), "1000", "")
    assert (done.returncode, left(folder)) == (0, {"m@3.data", "note"})
    assert "removed 2 old files" in done.stderr
    assert shell("dync_folder", str(folder), "", "").stderr == ""
    assert left(folder) == {"m@3.data", "note"}
    shell("dync_folder", str(folder), "0", "")
    assert left(folder) == {"note"}


def test_nothing_is_removed_while_only_errors_are_looked_for(tmp_path: Path) -> None:
    folder = filled(tmp_path / "kv", ["m@1.data"])
    assert shell("dync_folder", str(folder), "0", "", check_only=True).returncode == 0
    assert left(folder) == {"m@1.data"}


def test_a_folder_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    assert shell("dync_folder", str(tmp_path / "x" / "y"), "0", "").returncode == 0
    assert (tmp_path / "x" / "y").stat().st_mode & 0o777 == 0o700


def test_a_folder_that_cannot_be_made_and_a_share_that_is_not_mounted(tmp_path: Path) -> None:
    done = shell("dync_folder", "/proc/kv", "0", "")
    assert done.returncode == 2
    assert "/proc/kv cannot be made or written" in done.stderr
    done = shell("dync_folder", str(tmp_path / "nfs"), "", "shared")
    assert done.returncode == 2
    assert "mount it first" in done.stderr
    assert not (tmp_path / "nfs").exists()


@pytest.fixture
def redis() -> Iterator[int]:
    """Return the port of a real redis-server, started by the bundle's own script."""
    if shutil.which("redis-server") is None:
        if os.environ.get("CI"):
            pytest.fail("redis-server is missing")
        pytest.skip("needs redis-server")
    port = free_port()
    with subprocess.Popen(
        ["bash", "lib/redis.sh", "--bind", "127.0.0.1", "--port", str(port), "--save", ""],
        cwd=ROOT / "templates",
        env={"PATH": os.environ["PATH"], "REDIS_PASSWORD": PASSWORD},
        stdout=subprocess.DEVNULL,
    ) as process:
        yield port
        process.kill()


def password(tmp_path: Path, text: str) -> str:
    path = tmp_path / "pass word"
    path.write_text(text, "utf-8")
    return str(path)


def ask(port: int, file: str, within_s: int = 20, required: str = "required") -> tuple[int, str]:
    done = shell("dync_server", "127.0.0.1", str(port), "", file, str(within_s), required)
    return done.returncode, done.stderr


def test_a_server_with_the_right_and_the_wrong_password(redis: int, tmp_path: Path) -> None:
    assert ask(redis, password(tmp_path, PASSWORD + "\n")) == (0, "")
    status, said = ask(redis, password(tmp_path, "wrong"))
    assert status == 2
    assert f"127.0.0.1:{redis} refuses the password of {tmp_path}/pass word" in said
    status, said = ask(redis, "")
    assert status == 2
    assert "refuses to serve without a password (password_file)" in said
    command_lines = (path for path in Path("/proc").glob("[0-9]*/cmdline"))
    assert not any(PASSWORD.encode() in _read(path) for path in command_lines)
    assert not any(b"REDIS_PASSWORD" in _read(path.with_name("environ")) for path in _redis(redis))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _redis(port: int) -> list[Path]:
    lines = Path("/proc").glob("[0-9]*/cmdline")
    return [path for path in lines if f"127.0.0.1:{port}".encode() in _read(path)]


def test_the_launcher_starts_a_redis_waits_for_it_and_stops_it(
    bundle: Bundle, tmp_path: Path
) -> None:
    if shutil.which("redis-server") is None and not os.environ.get("CI"):
        pytest.skip("needs redis-server")
    port, file = free_port(), shlex.quote(password(tmp_path, PASSWORD))
    options = ["--bind", "127.0.0.1", "--port", str(port), "--save", ""]
    secret = SimpleNamespace(variable="REDIS_PASSWORD", file=file)
    bundle.add("redis", ready_protocol="redis", ready_key_file=password(tmp_path, PASSWORD))
    bundle.processes[-1].ready_port = port
    bundle.processes[-1].listens = f"127.0.0.1:{port}"
    bundle.script("redis", argv=["/bin/bash", "lib/redis.sh", *options], secrets=(secret,))
    check = SimpleNamespace(
        command="dync_server_of_ours",
        host="127.0.0.1",
        port=port,
        username="''",
        file=file,
        within_s=20,
        required="required",
    )
    bundle.add("cache", after="redis", servers=(check,))
    bundle.write()
    shutil.copy(LIBRARY / "redis.sh", bundle.root / "lib")
    launch = bundle.start()
    launch.until(" serves at ")
    assert ask(port, password(tmp_path, PASSWORD)) == (0, "")
    assert launch.stop() == 0
    assert not _redis(port)


def test_no_server_stops_only_what_cannot_do_without() -> None:
    port = free_port()
    status, said = ask(port, "", within_s=0, required="")
    assert status == 0
    assert "it starts without, and connects when there is one" in said
    status, said = ask(port, "", within_s=1)
    assert status == 2
    assert f"no server of a tier answers at 127.0.0.1:{port}" in said


def test_a_server_that_comes_late_is_waited_for() -> None:
    port = free_port()

    def serve() -> None:
        time.sleep(1)
        with socket.create_server(("127.0.0.1", port)) as server:
            connection, _ = server.accept()
            with connection:
                connection.recv(100)
                connection.sendall(b"+PONG\r\n")

    thread = threading.Thread(target=serve)
    thread.start()
    assert ask(port, "", within_s=30) == (0, "")
    thread.join()
