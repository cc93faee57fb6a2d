"""What lib/service.sh does beside the processes: readiness, completions, GPUs, shared memory."""

from __future__ import annotations

import http.server
import json
import mmap
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support import ROOT

LIB = ROOT / "templates" / "lib"
# As `nvidia-smi -L` of driver 570 lists an H100, and one that is split.
SHOWN = """\
GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-8a56a4bc-e184-a047-2620-be19fdf913d5)
GPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-2c1d3f7e-0b7e-4a36-9a2b-8c6b0d6b5a11)
  MIG 3g.40gb     Device  0: (UUID: MIG-7b4c0e1a-91d5-5a3f-b0c3-3f0b7a1d2e4f)
"""


@dataclass
class Server:
    """An HTTP server that answers 200 or what it is told, and keeps what it was asked."""

    port: int = 0
    key: str = ""
    answers: list[int] = field(default_factory=list)
    asked: list[tuple[str, str, str]] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[Server]:
    seen = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length).decode()
            seen.asked.append((self.path, self.headers.get("Authorization") or "", body))
            is_known = self.headers.get("Authorization") == f"Bearer {seen.key}"
            answer = 200 if is_known or not seen.key else 401
            self.send_response(seen.answers.pop(0) if seen.answers else answer)
            self.end_headers()

        do_POST = do_GET  # noqa: N815 -- the name http.server looks for

        def log_message(self, *_: object) -> None:
            pass

    listener = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    seen.port = listener.server_address[1]
    thread = threading.Thread(target=listener.serve_forever)
    thread.start()
    yield seen
    listener.shutdown()
    thread.join()
    listener.server_close()


@pytest.fixture
def generation(tmp_path: Path) -> Path:
    (tmp_path / "lib").symlink_to(LIB)
    return tmp_path


def run(generation: Path, *words: object, **env: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "lib/service.sh", *map(str, words)],
        cwd=generation,
        env={"PATH": os.environ["PATH"], **{name: str(value) for name, value in env.items()}},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def test_ready_waits_for_status_200(generation: Path, server: Server) -> None:
    server.answers = [503, 500]
    words = ("ready", 20, "0.0.0.0", server.port, "/health", "", "")
    done = run(generation, *words, MAINPID=os.getpid())
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    assert [path for path, _, _ in server.asked] == ["/health"] * 3


def test_ready_posts_what_it_is_given_with_the_key_of_the_process(
    generation: Path, server: Server
) -> None:
    server.answers, server.key = [404], "hush $x %s"
    body = json.dumps({"model": "mödel", "prompt": [10] * 256})
    words = ("ready", 20, "127.0.0.1", server.port, "/v1/completions", body, "own")
    given = {"A": "VLLM_API_KEY=no", "VLLM_API_KEY": server.key}
    with subprocess.Popen(["sleep", "60"], env={"PATH": os.environ["PATH"], **given}) as main:
        done = run(generation, *words, MAINPID=main.pid)
        main.kill()
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    asked = [("/v1/completions", key, body) for key in ("", "", f"Bearer {server.key}")]
    assert server.asked == asked


def test_what_hands_a_key_on_is_ready_once_it_refuses(generation: Path, server: Server) -> None:
    server.answers, server.key = [503], "hush"
    words = ("ready", 20, "127.0.0.1", server.port, "/v1/completions", "{}", "refused")
    done = run(generation, *words, MAINPID=os.getpid())
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    assert [key for _, key, _ in server.asked] == ["", ""]


def test_ready_ends_with_its_process_and_with_its_time(generation: Path) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    ended = run(generation, "ready", 20, "127.0.0.1", 1, "/health", "", "", MAINPID=gone.pid)
    assert ended.returncode == 1
    assert "the process ended before it was ready" in ended.stderr
    late = run(generation, "ready", 0, "127.0.0.1", 1, "/health", "", "", MAINPID=os.getpid())
    assert late.returncode == 1
    assert "not ready after 0 s: no status 200 from 127.0.0.1:1/health" in late.stderr


def test_serving_sends_nothing_where_another_unit_listens(generation: Path, server: Server) -> None:
    """What it sends to the right one is seen where units are: tests/systemd/test_owners.py."""
    (generation / "KEY").write_text("hush\n")
    server.key = "hush"
    words = ("serving", 20, "127.0.0.1", server.port, "{}", "KEY", "dync-x-router.service")
    done = run(generation, *words, CREDENTIALS_DIRECTORY=generation)
    assert done.returncode == 1
    assert re.search(rf"port {server.port} on 127.0.0.1 is held by pid {os.getpid()} ", done.stderr)
    assert server.asked == []
    late = run(generation, "serving", 0, "127.0.0.1", 1, "{}", "", "dync-x-router.service")
    assert late.returncode == 1
    assert "no completion from 127.0.0.1:1 after 0 s" in late.stderr


@pytest.fixture
def driver(tmp_path: Path) -> Path:
    """Stand in for nvidia-smi, which needs a driver."""
    tool = tmp_path / "tools" / "nvidia-smi"
    tool.parent.mkdir()
    (tmp_path / "shown").write_text(SHOWN)
    tool.write_text(f'#!/bin/sh\n[ "$1" = -L ] && cat {tmp_path}/shown\n')
    tool.chmod(0o755)
    return tool.parent


@pytest.mark.parametrize(
    "gpus",
    [
        ("0", "1"),
        ("GPU-2c1d3f7e-0b7e-4a36-9a2b-8c6b0d6b5a11",),
        ("GPU-8a56",),
        ("MIG-7b4c0e1a-91d5-5a3f-b0c3-3f0b7a1d2e4f",),
    ],
)
def test_gpus_that_are_there(generation: Path, driver: Path, gpus: tuple[str, ...]) -> None:
    path = f"{driver}:{os.environ['PATH']}"
    assert run(generation, "gpus", 0, *gpus, PATH=path).returncode == 0


@pytest.mark.parametrize("gpu", ["2", "10", "GPU-0", "MIG-0"])
def test_a_gpu_that_is_not(generation: Path, driver: Path, gpu: str) -> None:
    done = run(generation, "gpus", 0, "0", gpu, PATH=f"{driver}:{os.environ['PATH']}")
    assert done.returncode == 1
    assert f"does not show GPU {gpu} after 0 s" in done.stderr
    assert "NVIDIA H100" in done.stderr


def test_a_gpu_that_comes_late(generation: Path, driver: Path) -> None:
    (generation / "shown").write_text("")
    late = threading.Timer(1.0, lambda: (generation / "shown").write_text(SHOWN))
    late.start()
    done = run(generation, "gpus", 20, "1", PATH=f"{driver}:{os.environ['PATH']}")
    late.join()
    assert done.returncode == 0, done.stderr


def test_sweep_frees_what_nobody_uses(generation: Path) -> None:
    names = [f"/dev/shm/psm_dync{os.getpid()}{use}" for use in ("open", "mapped", "left")]
    for name in names:
        Path(name).write_bytes(b"x" * mmap.PAGESIZE)
    other = Path(f"/dev/shm/other-{os.getpid()}")
    other.write_bytes(b"x")
    try:
        with open(names[0], "rb"), open(names[1], "r+b") as file:
            mapped = mmap.mmap(file.fileno(), 0)
            file.close()
            assert run(generation, "sweep").returncode == 0
            assert [Path(name).exists() for name in names] == [True, True, False]
            assert other.exists()
            mapped.close()
        run(generation, "sweep")
        assert not any(Path(name).exists() for name in names)
    finally:
        for path in (*map(Path, names), other):
            path.unlink(missing_ok=True)


@contextmanager
def keeping(generation: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Keep run/discovery, where one registration is known; return the keeper and that file."""
    file = generation / "run/discovery/v1/instances/prefill"
    file.parent.mkdir(parents=True)
    file.write_text("127.0.0.1:8103")
    keeper = subprocess.Popen(
        ["bash", "lib/service.sh", "keep", "run/discovery"],
        cwd=generation,
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_until((generation / "run/discovery.kept/v1/instances/prefill").exists)
        yield keeper, file
        assert keeper.poll() is None
    finally:
        keeper.kill()
        keeper.wait()


def wait_until(holds: Callable[[], object]) -> None:
    give_up = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.05)


def pause(keeper: subprocess.Popen[bytes], file: Path) -> None:
    """Let a file expire while the keeper stands still, as when the whole host does."""
    keeper.send_signal(signal.SIGSTOP)
    file.unlink()
    time.sleep(8.5)
    keeper.send_signal(signal.SIGCONT)


def test_a_registration_that_vanished_in_a_pause_is_put_back_once(generation: Path) -> None:
    with keeping(generation) as (keeper, file):
        written = file.stat()
        pause(keeper, file)
        wait_until(file.exists)
        assert file.read_text() == "127.0.0.1:8103"
        assert file.stat().st_ino == written.st_ino
        assert file.stat().st_mtime >= written.st_mtime + 8  # or it would expire at once
        file.unlink()  # nobody touched it: its owner is gone
        wait_until(lambda: not (generation / "run/discovery.kept/v1/instances/prefill").exists())
        time.sleep(2.5)
        assert not file.exists()


def test_an_owner_that_lives_is_put_back_as_often_as_it_takes(generation: Path) -> None:
    with keeping(generation) as (keeper, file):
        pause(keeper, file)
        wait_until(file.exists)
        file.touch()
        file.unlink()
        wait_until(file.exists)


def test_what_an_owner_forgot_is_as_fresh_as_what_it_touches(generation: Path) -> None:
    with keeping(generation) as (_, other):
        names = ("it%2Fbackend%2Fgenerate%2F741b", "it%2Fbackend%2Fmetrics%2F741b", "it%2Fx%2F9c")
        forgotten, touched, foreign = files = [other.with_name(name) for name in names]
        long_ago = time.time() - 100
        for file in files:
            file.write_text("127.0.0.1:8103")
            os.utime(file, (long_ago, long_ago))
        os.utime(touched, (long_ago + 50, long_ago + 50))
        wait_until(lambda: forgotten.stat().st_mtime == touched.stat().st_mtime)
        assert touched.stat().st_mtime == pytest.approx(long_ago + 50)  # nothing lives on by itself
        assert foreign.stat().st_mtime == pytest.approx(long_ago)
        touched.touch()
        wait_until(lambda: forgotten.stat().st_mtime == touched.stat().st_mtime)


def test_a_registration_that_is_withdrawn_stays_away(generation: Path) -> None:
    with keeping(generation) as (_, file):
        file.unlink()
        wait_until(lambda: not (generation / "run/discovery.kept/v1/instances/prefill").exists())
        assert not file.exists()


def test_a_registration_that_is_written_anew_is_kept_as_it_is(generation: Path) -> None:
    kept = generation / "run/discovery.kept/v1/instances/prefill"
    with keeping(generation) as (keeper, file):
        fresh = file.with_name(".tmp_1")
        fresh.write_text("127.0.0.1:9103")
        fresh.rename(file)
        wait_until(lambda: kept.read_text() == "127.0.0.1:9103")
        pause(keeper, file)
        wait_until(file.exists)
        assert file.read_text() == "127.0.0.1:9103"
