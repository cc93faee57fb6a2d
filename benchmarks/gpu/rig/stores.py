"""The servers and folders behind storage tiers: made by a suite, and asked what they hold."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gpu.rig.engine import answers
from benchmarks.gpu.rig.kit import KIT, Kit
from demo.client import metric

MOONCAKE_BYTES = 2 << 30
LOOPBACK = "127.0.0.1"
PASSWORD = "p@:w/d %'\"\\ x"  # what quoting and URLs could lose
WITHIN_S = 60


@dataclass(frozen=True, slots=True)
class Store:
    """What is behind one tier: how many things it holds, or why it does not run."""

    held: Callable[[], int]
    failed: str = ""


@contextmanager
def stores(
    kit: Kit, plans: Mapping[str, Mapping[str, Any]], logs: Path
) -> Iterator[dict[str, Store]]:
    """Run what the tiers of some bundles need, empty; return it by the names of the bundles."""
    logs.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        found = {}
        for name, plan in plans.items():
            tier = tier_of(plan)
            try:
                found[name] = _START[tier["kind"]](kit, tier, plan, logs, stack)
            except (OSError, RuntimeError) as error:
                print(f"  {name}: {error}", flush=True)
                found[name] = Store(lambda: 0, str(error))
        yield found


def tier_of(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Return the one tier of a bundle's plan.json."""
    return dict(next(tier for item in plan["processes"] for tier in item["tiers"]))


def _folder(
    _kit: Kit, tier: Mapping[str, Any], _plan: Mapping[str, Any], _logs: Path, _stack: ExitStack
) -> Store:
    folder = Path(tier["folder"])
    shutil.rmtree(folder, ignore_errors=True)
    (folder if tier["shared"] else folder.parent).mkdir(parents=True, exist_ok=True)
    return Store(lambda: sum(path.is_file() for path in folder.rglob("*")))


def _redis(
    _kit: Kit, tier: Mapping[str, Any], plan: Mapping[str, Any], logs: Path, stack: ExitStack
) -> Store:
    port = tier["server"]["port"]
    secrets = (item["secrets"] for item in plan["processes"] if item["tiers"])
    file = Path(next(iter(next(secrets).values())))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(PASSWORD)
    file.chmod(0o600)
    argv = ["bash", "lib/redis.sh", "--bind", LOOPBACK, "--port", str(port)]
    argv += ["--save", "", "--appendonly", "no"]
    env = {**os.environ, "REDIS_PASSWORD": PASSWORD}
    _started(argv, logs / "redis.log", stack, cwd=KIT / "templates", env=env)
    _until(lambda: b"PONG" in _asked(port, "PING"), "redis-server does not answer")
    return Store(lambda: int(_asked(port, "DBSIZE").rpartition(b":")[2] or 0))


def _mooncake(
    kit: Kit, tier: Mapping[str, Any], _plan: Mapping[str, Any], logs: Path, stack: ExitStack
) -> Store:
    master = tier["place"].removeprefix("mooncake://")
    port = int(master.rpartition(":")[2])
    metrics = f"http://{LOOPBACK}:{port - 1}/metrics"
    argv = [kit.python, "-m", "mooncake.cli", f"--rpc_port={port}", f"--metrics_port={port - 1}"]
    _started(argv, logs / "mooncake_master.log", stack)
    _until(lambda: answers(metrics), "mooncake_master does not answer")
    log = logs / "mooncake_memory.log"
    program = str(Path(__file__).with_name("mooncake_memory.py"))
    _started([kit.python, program, master, str(MOONCAKE_BYTES)], log, stack)
    _until(lambda: "gives" in log.read_text(errors="replace").split(), "no memory for Mooncake")
    return Store(lambda: int(metric(metrics, "master_key_count")))


_START: Mapping[str, Callable[..., Store]] = {
    "disk": _folder,
    "fs": _folder,
    "redis": _redis,
    "mooncake": _mooncake,
}


def _started(argv: list[str], log: Path, stack: ExitStack, **more: Any) -> None:
    with open(log, "wb") as sink:
        process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=sink, stderr=subprocess.STDOUT, **more
        )
    stack.callback(process.wait)
    stack.callback(process.kill)


def _until(claim: Callable[[], bool], otherwise: str) -> None:
    give_up = time.monotonic() + WITHIN_S
    while not claim():
        if time.monotonic() > give_up:
            raise RuntimeError(otherwise)
        time.sleep(0.2)


def _asked(port: int, *words: str) -> bytes:
    """Ask Redis after giving the password; nothing where it is not there."""
    request = b""
    for command in (("AUTH", PASSWORD), words):
        encoded = [word.encode() for word in command]
        request += b"*%d\r\n" % len(encoded)
        request += b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in encoded)
    try:
        with socket.create_connection((LOOPBACK, port), 5) as connection:
            connection.sendall(request)
            answer = b""
            while answer.count(b"\r\n") < 2:  # to AUTH and to the question
                answer += connection.recv(4096)
            return answer.strip()
    except OSError:
        return b""
