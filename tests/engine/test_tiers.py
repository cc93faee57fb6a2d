"""Storage tiers, really used: LMCache's own server and client, and a worker, on the CPU.

`lmcache bench server` is LMCache's client for its server: for each sequence it looks up, stores,
looks up again, retrieves and compares checksums. What is found by the first look-up after a
restart can only come from a tier.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from compiler.emit.bundle import emit
from compiler.library import templates
from compiler.plan import Plan
from compiler.process import Kind, Process
from compiler.write.bundle import write
from compiler.write.plan_reader import plan_from_json
from demo.client import ask, long_prompt, metric
from demo.cpu_stack import STACK, launched
from tests.engine.conftest import packages, until
from tests.support import ROOT, free_port, plan_of

pytestmark = pytest.mark.engine

GIB = 1 << 30
PASSWORD = "p@:w/d %'\"\\ ö"
CHUNK_BYTES = 4 << 20  # 2 x 8 layers x 128 tokens x 8 heads x 128 x float16, below
SHAPE = ("--kvcache-shape-spec", "(2,64,16,8,128):float16:8", "--num-tokens", "256")
BLOCKS = ("--block-size", "16", "--num-blocks", "64")
HITS = "vllm:external_prefix_cache_hits_total"


def profile(tiers: str, **lmcache: object) -> str:
    settings = "".join(f"  {key}: {value}\n" for key, value in lmcache.items())
    return (
        "name: tiers\nstack: vllm-0.32\ntopology: agg\naccelerator: cpu\n"
        "model: {id: /nowhere, served_name: m, max_len: 4096}\n"
        f"lmcache:\n  chunk_size: 128\n{settings}  tiers:\n{tiers}"
        "workers:\n  - role: aggregated\n"
        "    engine_args: {enforce_eager: true, enable_prefix_caching: false}\n"
        "    env: {VLLM_CPU_KVCACHE_SPACE: 1}\n"
        "frontend: {port: 18099}\ndeploy: {first_port: 18100}\n"
    )


@pytest.fixture
def bundle(prefix: Path, tmp_path: Path) -> Callable[..., tuple[Path, Plan]]:
    def make(tiers: str, name: str = "bundle", *overrides: str, **lmcache: object) -> Any:
        settings = {"cpu_cache_gb": 0.125, **lmcache}
        plan = plan_of(profile(tiers, **settings), f"deploy.prefix={prefix}", *overrides)
        write(emit(plan, templates()), tmp_path / name)
        return tmp_path / name, plan

    return make


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    path = tmp_path / "pass word"
    path.write_text(PASSWORD, "utf-8")
    path.chmod(0o600)
    return path


class Redis:
    """A redis-server of the test's own, started as the bundle's script starts one."""

    def __init__(self, root: Path, port: int) -> None:
        self.root, self.port = root, port
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        words = (
            "--bind",
            "127.0.0.1",
            "--port",
            str(self.port),
            "--save",
            "",
            "--appendonly",
            "no",
        )
        self.process = subprocess.Popen(
            ["bash", "lib/redis.sh", *words],
            cwd=Path(__file__).parents[2] / "templates",
            env={"PATH": os.environ["PATH"], "REDIS_PASSWORD": PASSWORD},
            stdout=subprocess.DEVNULL,
        )
        give_up = time.monotonic() + 60
        while b"PONG" not in self.ask("PING"):
            assert time.monotonic() < give_up
            time.sleep(0.2)

    def ask(self, *words: str) -> bytes:
        request = b""
        for command in (("AUTH", PASSWORD), words):
            encoded = [word.encode() for word in command]
            request += b"*%d\r\n" % len(encoded)
            request += b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in encoded)
        try:
            with socket.create_connection(("127.0.0.1", self.port), 5) as connection:
                connection.sendall(request)
                answer = b""
                while answer.count(b"\r\n") < 2:
                    answer += connection.recv(4096)
                return answer
        except OSError:
            return b""

    def keys(self) -> int:
        return int(self.ask("DBSIZE").split(b":")[1])

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    server = Redis(tmp_path, free_port())
    server.start()
    yield server
    server.kill()


@contextmanager
def cache_server(root: Path, plan: Plan) -> Iterator[Process]:
    """Run bin/lmcache.sh, and whatever stands before it, until it is ready."""
    server = next(process for process in plan.processes if process.kind is Kind.CACHE_SERVER)
    log = root / "lmcache.log"
    with log.open("ab") as file:
        process = subprocess.Popen(
            ["bash", "bin/lmcache.sh"], cwd=root, stdout=file, stderr=file, start_new_session=True
        )
    try:
        give_up = time.monotonic() + 180
        while not answers(server.ready.host, server.ready.port):
            assert process.poll() is None, log.read_text("utf-8")[-3000:]
            assert time.monotonic() < give_up
            time.sleep(0.3)
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def answers(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), 2) as connection:
            connection.sendall(b"GET /healthcheck HTTP/1.0\r\n\r\n")
            return b" 200 " in connection.recv(64)
    except OSError:
        return False


def bench(server: Process, sequences: int, interval: float = 0.3) -> tuple[int, int, str]:
    """Run LMCache's own client; return chunks found by first look-ups, wrong checksums, text."""
    command = [server.argv[0], "-m", "lmcache.cli.main", "bench", "server", "--mode", "cpu"]
    command += ["--rpc-url", f"tcp://127.0.0.1:{server.listens[0].port}"]
    command += ["--url", f"http://127.0.0.1:{server.listens[1].port}", "--format", "json"]
    command += ["--end", str(sequences), "--interval", str(interval), *SHAPE, *BLOCKS]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    found = [int(hits) for hits in re.findall(r"/cold\] LOOKUP: (\d+)/\d+ chunks", done.stdout)]
    assert len(found) == sequences, done.stdout[-2000:]
    wrong = json.loads(done.stdout[done.stdout.index("\n{\n") : done.stdout.rindex("}") + 1])
    return sum(found), int(wrong["metrics"]["results"]["checksum_fail"]), done.stdout


SEQUENCES = 24  # of two chunks: 192 MiB beside 128 MiB of host memory
TIERS = {
    "disk": "    - disk: {{path: '{folder}/di sk', size_gb: 1}}\n",
    "nixl": "    - nixl: {{path: '{folder}/ni xl', size_gb: 1}}\n",
    "fs": "    - fs: {{path: '{folder}/shared'}}\n",
    "redis": "    - redis: {{url: 'redis://127.0.0.1:{port}', password_file: '{password_file}'}}\n",
    "valkey": "    - valkey: {{hosts: ['127.0.0.1:{port}'], password_file: '{password_file}', "
    "key_prefix: v}}\n",
}


def test_every_tier_is_read_after_a_restart(
    bundle: Callable[..., tuple[Path, Plan]], redis: Redis, password_file: Path, tmp_path: Path
) -> None:
    """One run fills all of them past the host memory; then each alone gives it back.

    Redis is Valkey too: both speak to one server.
    """
    (tmp_path / "shared").mkdir()
    words = {"folder": tmp_path, "port": redis.port, "password_file": password_file}
    texts = {kind: text.format(**words) for kind, text in TIERS.items()}
    root, plan = bundle("".join(texts.values()))
    bring_glide(root)
    with cache_server(root, plan) as server:
        found, wrong, _ = bench(server, SEQUENCES)
        assert (found, wrong) == (0, 0)
        command_line = Path("/proc").glob("[0-9]*/cmdline")
        assert not any(PASSWORD.encode() in read(path) for path in command_line)
    for kind, text in texts.items():
        root, plan = bundle(text, f"only-{kind}")
        bring_glide(root)
        with cache_server(root, plan) as server:
            found, wrong, said = bench(server, 6, 0)
            assert found == 12, f"{kind}: {found} of 12 chunks\n{said[-3000:]}"
            assert wrong == 0
    stored = redis.keys()
    assert stored >= 4 * SEQUENCES


def bring_glide(root: Path) -> None:
    """Put the client that a user installs into the stack where the cache server finds it."""
    for package in packages(STACK, "valkey-glide-sync-2.6.0", "valkey-glide-sync==2.6.0").iterdir():
        (root / "lib" / package.name).symlink_to(package)


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


@pytest.mark.long
def test_a_disks_size_holds_while_it_is_written_and_over_a_restart(
    bundle: Callable[..., tuple[Path, Plan]], tmp_path: Path
) -> None:
    size = 0.2  # GiB, half of which a restart may keep
    root, plan = bundle(f"    - disk: {{path: '{tmp_path}/kv', size_gb: {size}}}\n")
    most = 0
    for _ in range(2):
        with cache_server(root, plan) as server:
            command = [sys.executable, "-c", WATCH, str(tmp_path / "kv")]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watch:
                bench(server, SEQUENCES)
                watch.send_signal(signal.SIGINT)
                peak, _ = watch.communicate(timeout=60)
        most = max(most, int(peak))
    assert most <= size * GIB + 2 * CHUNK_BYTES
    assert most > size * GIB / 2


WATCH = """
import os, sys, time
most = 0
try:
    while True:
        total = 0
        for folder, _, names in os.walk(sys.argv[1]):
            for name in names:
                try:
                    total += os.stat(os.path.join(folder, name)).st_size
                except OSError:
                    pass
        most = max(most, total)
        time.sleep(0.05)
except KeyboardInterrupt:
    print(most)
"""


@pytest.mark.long
def test_a_worker_goes_on_without_redis_and_uses_it_again(
    bundle: Callable[..., tuple[Path, Plan]],
    redis: Redis,
    password_file: Path,
    random_model: Path,
) -> None:
    text = TIERS["redis"].format(port=redis.port, password_file=password_file)
    root, plan = bundle(text, "bundle", f"model.id={random_model}", cpu_cache_gb=0.05)
    password_file.write_text("wrong", "utf-8")
    done = subprocess.run([root / "launch.sh"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"refuses the password of {password_file}" in done.stderr
    password_file.write_text(PASSWORD, "utf-8")
    worker = next(process for process in plan.processes if process.kind is Kind.WORKER)

    def hits() -> float:
        return metric(worker.metrics, HITS)

    with launched(root):
        first = long_prompt("before", 20)
        ask(plan.url, plan.served_name, first, 1)
        until(lambda: redis.keys() > 1, 60)
        redis.kill()
        for number in range(3):
            ask(plan.url, plan.served_name, long_prompt(f"while away {number}", 20), 1)
        redis.start()
        asked: list[str] = []

        def is_used_again() -> bool:
            asked.append(long_prompt(f"back {len(asked)}", 20))
            ask(plan.url, plan.served_name, asked[-1], 1)
            time.sleep(1)
            return redis.keys() > 0

        until(is_used_again, 60)
    with launched(root):
        assert hits() == 0
        for prompt in asked:
            ask(plan.url, plan.served_name, prompt, 1)
        assert hits() > 0


ADAPTERS = """
import argparse, json, sys
from lmcache.v1.distributed.l2_adapters.config import (
    add_l2_adapters_args, get_type_name_for_config, parse_args_to_l2_adapters_config)
args = add_l2_adapters_args(argparse.ArgumentParser()).parse_args(sys.argv[1:])
for item in parse_args_to_l2_adapters_config(args).adapters:
    print("READ " + json.dumps([get_type_name_for_config(item), vars(item)], default=str))
"""
GOLDEN = ROOT / "tests" / "golden"


def said_by(prefix: Path, code: str, *words: str) -> tuple[list[Any], str]:
    """Run code in the stack; return what it read, and all that it said."""
    python = prefix / "stacks" / STACK / "bin" / "python"
    done = subprocess.run(
        [python, "-c", code, *words], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr[-3000:]
    lines = done.stdout.splitlines()
    found = [json.loads(line[5:]) for line in lines if line.startswith("READ ")]
    return found, done.stdout + done.stderr


def test_lmcaches_own_parser_takes_every_adapter(prefix: Path) -> None:
    plans = [
        plan_from_json(path.read_text("utf-8"))
        for path in sorted(GOLDEN.glob("tiers-*/expected/plan.json"))
    ]
    adapters = {
        text
        for plan in plans
        for process in plan.processes
        for flag, text in zip(process.argv, process.argv[1:], strict=False)
        if flag == "--l2-adapter" and '"hf3fs"' not in text  # looks for its mount point at once
    }
    words = [word for text in sorted(adapters) for word in ("--l2-adapter", text)]
    found, said = said_by(prefix, ADAPTERS, *words)
    assert "Error parsing" not in said
    assert "will NOT bound" not in said
    assert {kind for kind, _ in found} == {
        "fs", "fs_native", "native_plugin", "nixl_store_dynamic", "plugin", "raw_block", "s3"
    }  # fmt: skip
    for text, (kind, values) in zip(sorted(adapters), found, strict=True):
        given = json.loads(text)
        assert given["type"] == kind
        for key in given.keys() & values.keys() - {"type", "eviction"}:
            assert values[key] == given[key], (kind, key)
