"""What the reference page's scripts start: LMCache in process, in their order, nothing tuned.

Dynamo's frontend is left out: vllm-router stands in front, as it does in a bundle, so that what is
compared is the engines. Its form gets what it does not answer without, and what keeps a difference
from being of another kind: --disable-hybrid-kv-cache-manager on both sides, without which every
disaggregated request fails on this stack; UCX's reads over cuda_ipc, which UCX takes by itself only
where it finds NVLink; and, as the bundles do, the size of the engines' KV and no prefix caching, so
that hits are LMCache's alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.gpu.rig import lines
from benchmarks.gpu.rig.beat_load import Deployment
from benchmarks.gpu.rig.engine import Line, Running, start, wait_ready
from benchmarks.gpu.rig.kit import Kit
from benchmarks.gpu.rig.pairs import GET

NIXL = {"kv_connector": "NixlConnector", "kv_role": "kv_both"}
CHUNK_SIZE, CPU_GB, KV_BYTES = 256, 20, 8_000_000_000
DECODE_FIRST_S = 20
"""How long its script waits after decode before it starts prefill."""
PORTS = {"page-disagg": 18100, "page-agg": 18200}
FORMS = tuple(PORTS)
SERVES_WITHIN_S, ON_CPU_WITHIN_S = 240, 900


@contextmanager
def started(kit: Kit, name: str, logs: Path) -> Iterator[Future[Deployment | None]]:
    """Start one form beside what else starts; return it once it serves, None if it does not."""
    with ExitStack() as stack, ThreadPoolExecutor(1) as pool:
        engines: list[Running] = []
        stack.callback(_end, engines)  # whatever was started until the pool is done
        try:
            yield pool.submit(_start, kit, name, logs, engines)
        finally:
            for engine in engines:
                engine.kill()


def _end(engines: list[Running]) -> None:
    for engine in engines:
        engine.kill()
        engine.process.wait()


def _start(kit: Kit, name: str, logs: Path, engines: list[Running]) -> Deployment | None:
    within_s = SERVES_WITHIN_S if kit.on_gpu else ON_CPU_WITHIN_S
    began = time.monotonic()
    workers, flags = _workers(kit, name)
    for index, worker in enumerate(workers):
        if index and name == "page-disagg":
            time.sleep(DECODE_FIRST_S)
        engines.append(start(worker, logs))
    if len(wait_ready(engines, within_s)) < len(workers):
        return None
    router = start(_router(kit, name, *flags), logs)
    engines.append(router)
    if not wait_ready([router], 60):
        return None
    shown = {worker.name: f"{worker.url}/metrics" for worker in workers}
    ready_s = round(time.monotonic() - began, 1)
    return Deployment(name, f"{router.line.url}/v1", "m", shown, (0, 1), ready_s)


def _workers(kit: Kit, name: str) -> tuple[list[Line], tuple[str, ...]]:
    """Return the workers in the order of the page's script, and the router's flags for them."""
    port = PORTS[name]
    if name == "page-agg":
        pair = [
            _worker(kit, f"{name}-{gpu}", port + 1 + gpu, gpu, lines.IN_PROCESS) for gpu in (0, 1)
        ]
        return pair, ("--worker-urls", *(worker.url for worker in pair))
    hybrid = "--disable-hybrid-kv-cache-manager"
    decode = _worker(kit, f"{name}-decode", port + 1, 0, NIXL, hybrid)
    both = lines.several(lines.IN_PROCESS, NIXL)
    prefill = _worker(kit, f"{name}-prefill", port + 2, 1, both, hybrid)
    flags = ("--vllm-pd-disaggregation", "--prefill", prefill.url, "--decode", decode.url)
    return [decode, prefill], flags


def _worker(
    kit: Kit, name: str, port: int, gpu: int, connector: Mapping[str, Any], *flags: str
) -> Line:
    side = {**GET, "VLLM_NIXL_SIDE_CHANNEL_PORT": str(port + 10)}
    place = {"CUDA_VISIBLE_DEVICES": str(gpu)} if kit.on_gpu else {}
    size = ("--load-format", "dummy", "--max-model-len", "32768")
    return lines.worker(
        replace(kit, python=kit.page_python),
        name,
        port,
        "--no-enable-prefix-caching",
        *(size if kit.on_gpu else ("--max-model-len", "8192", "--enforce-eager")),
        *flags,
        model="8b" if kit.on_gpu else "tiny",
        connector=connector,
        env={**lines.in_process_env(kit, CPU_GB if kit.on_gpu else 1, CHUNK_SIZE), **side, **place},
        fraction=0.3,
        kv_bytes=KV_BYTES,
    )


def _router(kit: Kit, name: str, *flags: str) -> Line:
    port = PORTS[name]
    argv = [kit.page_python, "-m", "vllm_router.launch_router", *flags, "--policy", "round_robin"]
    argv += ["--host", "127.0.0.1", "--port", str(port), "--prometheus-port", str(port + 9)]
    return Line(name=f"{name}-router", argv=tuple(argv), port=port, env=kit.env)
