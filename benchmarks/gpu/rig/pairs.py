"""Prefill and decode beside each other on one GPU: what is right, and how KV crosses."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.gpu.rig import lines
from benchmarks.gpu.rig.engine import Line, Running, running
from benchmarks.gpu.rig.exact import HITS, compare, logprobs_of
from benchmarks.gpu.rig.kit import Kit
from benchmarks.gpu.rig.nixl_pair import UCX_SAYS, protocols
from benchmarks.gpu.rig.prompts import text
from demo.client import metric

GET = {"UCX_CUDA_IPC_ENABLE_GET_ZCOPY": "on"}
LENGTHS = (700, 3000, 6000)
NIXL = ("bytes_transferred", "xfer_time_seconds", "post_time_seconds", "num_descriptors")


def run(kit: Kit, logs: Path) -> dict[str, Any]:
    """Hold pull as it is, pull with cuda_ipc reads, and push against each other."""
    pairs = {
        "pull": _pair(kit, "pull", 17200, "NixlConnector", {}),
        "pull-get": _pair(kit, "pull-get", 17210, "NixlConnector", GET),
        "push": _pair(kit, "push", 17220, "NixlPushConnector", {}),
    }
    if not kit.on_gpu:
        del pairs["pull"], pairs["push"]
    engines = [engine for pair in pairs.values() for engine in pair]
    routers = [_router(kit, name, *pair) for name, pair in pairs.items()]
    with running(engines, logs, 240) as ready, running(routers, logs, 60) as routing:
        by_name = {engine.line.name: engine for engine in [*ready, *routing]}
        with ThreadPoolExecutor(len(pairs)) as pool:
            found = pool.map(lambda name: _examine(name, by_name), pairs)
            return dict(zip(pairs, found, strict=True))


def _pair(kit: Kit, name: str, port: int, connector: str, env: dict[str, str]) -> tuple[Line, Line]:
    common = ("--no-enable-prefix-caching", "--enforce-eager", "--disable-hybrid-kv-cache-manager")
    producer = {"kv_connector": connector, "kv_role": "kv_producer"}
    consumer = {"kv_connector": connector, "kv_role": "kv_consumer"}
    cache = lines.IN_PROCESS if kit.on_gpu else lines.multiprocess(17001)
    side = "VLLM_NIXL_SIDE_CHANNEL_PORT"
    prefill = lines.worker(
        kit,
        f"{name}-prefill",
        port + 1,
        *common,
        connector=lines.several(producer, cache) if kit.on_gpu else producer,
        env={**lines.in_process_env(kit, 2), **lines.OLD_RUNNER, side: str(port + 3), **env},
    )
    decode = lines.worker(
        kit,
        f"{name}-decode",
        port + 2,
        *common,
        connector=consumer,
        env={"PYTHONHASHSEED": "0", side: str(port + 4), **env, **UCX_SAYS},
    )
    return prefill, decode


def _router(kit: Kit, name: str, prefill: Line, decode: Line) -> Line:
    port = prefill.port - 1
    argv = [kit.python, "-m", "vllm_router.launch_router", "--vllm-pd-disaggregation"]
    argv += ["--prefill", prefill.url, "--decode", decode.url, "--policy", "round_robin"]
    argv += ["--host", "127.0.0.1", "--port", str(port), "--prometheus-port", str(port + 9)]
    return Line(name=f"{name}-router", argv=tuple(argv), port=port, env=kit.env)


def _examine(name: str, engines: dict[str, Running]) -> dict[str, Any]:
    prefill, decode = engines.get(f"{name}-prefill"), engines.get(f"{name}-decode")
    router = engines.get(f"{name}-router")
    if prefill is None or decode is None or router is None:
        return {"error": "not all of it became ready"}
    rows = []
    for length in LENGTHS:
        prompt = text(length, f"{name}-{length}")
        try:
            asked = {
                "alone": logprobs_of(decode, prompt),
                "cold": logprobs_of(router, prompt),
                "warm": logprobs_of(router, prompt),
            }
        except OSError as error:
            rows.append({"length": length, "error": repr(error), "decode": decode.tail(4)})
            continue
        rows.append(
            {
                "length": length,
                "hits": metric(f"{prefill.line.url}/metrics", HITS),
                "cold": compare(length, 0, asked["alone"], asked["cold"]).difference,
                "warm": compare(length, 0, asked["alone"], asked["warm"]).difference,
            }
        )
    moved = {
        f"{role} {what}": metric(f"{engine.line.url}/metrics", f"vllm:nixl_{what}_sum")
        for role, engine in (("prefill", prefill), ("decode", decode))
        for what in NIXL
    }
    said = protocols(decode.log.read_text(errors="replace"))
    print(f"  {name}: {rows} {moved} {said}", flush=True)
    return {"rows": rows, "moved": moved, "protocols": said}
