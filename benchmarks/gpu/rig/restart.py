"""What becomes of a dead worker's GPU memory and of its successor, beside a cache server.

The server holds the dead engine's KV memory open until it reaps the registration: after the reap
timeout where the worker had pinged (which starts with its first store), else after the grace.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.gpu.rig import lines
from benchmarks.gpu.rig.engine import Line, Running, gpu_used_mib, running, start, wait_ready
from benchmarks.gpu.rig.exact import HITS, logprobs_of
from benchmarks.gpu.rig.kit import Kit
from benchmarks.gpu.rig.prompts import unique
from demo.client import metric


def run(kit: Kit, logs: Path) -> dict[str, Any]:
    """Kill a large worker, restart it at once; and see what a short grace does to an idle one."""
    reap = ("--worker-reap-timeout-seconds", "30", "--worker-registration-grace-seconds")
    servers = [
        lines.cache_server(kit, "server-reap-30", 16001, 16101, 2, *reap, "3600"),
        lines.cache_server(kit, "server-grace-30", 16002, 16102, 2, *reap, "30"),
    ]
    engines = [
        _worker(kit, "large", 16201, 16001, 0.55),
        _worker(kit, "idle", 16202, 16002, 0.05),
        _worker(kit, "early-death", 16203, 16002, 0.1),
    ]
    with running(servers, logs, 120), running(engines, logs, 240) as ready:
        by_name = {engine.line.name: engine for engine in ready}
        found: dict[str, Any] = {"early death": _freed_after(by_name["early-death"], 50)}
        with ThreadPoolExecutor(2) as pool:
            idle = pool.submit(_idle, by_name["idle"])
            found["large"] = _restart(by_name["large"], logs)
            found["idle"] = idle.result()
        return found


def _worker(kit: Kit, name: str, port: int, server: int, fraction: float) -> Line:
    return lines.worker(
        kit,
        name,
        port,
        "--no-enable-prefix-caching",
        "--enforce-eager",
        connector=lines.multiprocess(server),
        fraction=fraction,
        kv_bytes=int((fraction - 0.02) * 80e9),
    )


def _freed_after(engine: Running, patience_s: float, then: Callable[[], None] | None = None) -> Any:
    """Kill an engine; return the GPU memory over time until its part is free."""
    before = gpu_used_mib()
    engine.kill()
    began = time.monotonic()
    if then is not None:
        then()
    seen = []
    while time.monotonic() - began < patience_s:
        used = gpu_used_mib()
        seen.append((round(time.monotonic() - began, 1), used))
        time.sleep(1)
    print(f"  {engine.line.name}: {before} MiB before, then {seen[::5]}", flush=True)
    return {"before_mib": before, "used_mib": seen}


def _restart(engine: Running, logs: Path) -> dict[str, Any]:
    prompt = unique(1000, "restart")
    cold = logprobs_of(engine, prompt)
    logprobs_of(engine, prompt)
    time.sleep(12)  # past a heartbeat: the registration is ping-proven
    successors: list[Running] = []

    def successor() -> None:
        successors.append(start(replace(engine.line, name="large-again"), logs))

    freed = _freed_after(engine, 50, successor)
    first = wait_ready(successors, 40)
    attempts = [{"ready_s": first[0].ready_s if first else None, "tail": successors[0].tail(6)}]
    if not first:
        successors[0].kill()
        second = start(replace(engine.line, name="large-third"), logs)
        first = wait_ready([second], 120)
        attempts.append({"ready_s": second.ready_s, "tail": second.tail(6)})
    result: dict[str, Any] = {"freed": freed, "attempts": attempts}
    if first:
        warm = logprobs_of(first[0], prompt)
        result["hits_after"] = metric(f"{first[0].line.url}/metrics", HITS)
        result["difference"] = max(abs(cold[t] - warm[t]) for t in cold.keys() & warm.keys())
        first[0].kill()
    print(f"  restart: {attempts} {result.get('hits_after')} hits", flush=True)
    return result


def _idle(engine: Running) -> dict[str, Any]:
    """Use an engine for the first time long after the grace has passed."""
    prompt = unique(1000, "idle")
    rows = []
    for _ in range(3):
        began = time.monotonic()
        logprobs_of(engine, prompt)
        hits = metric(f"{engine.line.url}/metrics", HITS)
        rows.append({"seconds": round(time.monotonic() - began, 2), "hits": hits})
        time.sleep(15)
    idle_s = round(time.monotonic() - engine.began)
    print(f"  idle past the grace ({idle_s} s old): {rows}", flush=True)
    return {"requests": rows, "age_s": idle_s}
