"""Command lines written by hand: what an engineer who knows the flags would type."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from benchmarks.gpu.rig.engine import Line
from benchmarks.gpu.rig.kit import Kit

IN_PROCESS = {"kv_connector": "LMCacheConnectorV1", "kv_role": "kv_both"}
PRODUCER = {"kv_connector": "NixlConnector", "kv_role": "kv_producer"}
OLD_RUNNER = {"VLLM_USE_V2_MODEL_RUNNER": "0"}
PIECEWISE = ("--compilation-config", '{"cudagraph_mode": "PIECEWISE"}')


def multiprocess(port: int) -> dict[str, Any]:
    """Return the connector to a cache server at `port`."""
    return {
        "kv_connector": "LMCacheMPConnector",
        "kv_role": "kv_both",
        "kv_connector_extra_config": {
            "lmcache.mp.host": "tcp://127.0.0.1",
            "lmcache.mp.port": port,
        },
    }


def several(*connectors: Mapping[str, Any]) -> dict[str, Any]:
    """Return MultiConnector of some connectors, in their order."""
    return {
        "kv_connector": "MultiConnector",
        "kv_role": "kv_both",
        "kv_connector_extra_config": {"connectors": list(connectors)},
    }


def in_process_env(kit: Kit, cpu_gb: int, chunk_size: int | None = None) -> dict[str, str]:
    """Return LMCache's settings as the variables that its pages name; cpu_gb is GiB."""
    return {
        "LMCACHE_CHUNK_SIZE": str(chunk_size or kit.chunk_size),
        "LMCACHE_LOCAL_CPU": "True",
        "LMCACHE_MAX_LOCAL_CPU_SIZE": str(cpu_gb),
        "PYTHONHASHSEED": "0",
    }


def worker(
    kit: Kit,
    name: str,
    port: int,
    *flags: str,
    model: str = "tiny",
    connector: Mapping[str, Any] | None = None,
    env: Mapping[str, str] | None = None,
    fraction: float = 0.08,
    kv_bytes: int | None = 1 << 30,
) -> Line:
    """Return one engine; on a GPU it takes `fraction` of it, and `kv_bytes` for KV.

    Engines that size their KV at the same moment on one GPU mis-size it: so the size is said.
    """
    argv = [kit.python, *(word.replace("{model}", kit.models[model]) for word in kit.worker_argv)]
    argv += ["--host", "127.0.0.1", "--port", str(port), "--served-model-name", "m"]
    argv += ["--enable-prompt-tokens-details", *flags]
    if kit.on_gpu:
        argv += ["--gpu-memory-utilization", str(fraction)]
        argv += ["--kv-cache-memory-bytes", str(kv_bytes)] if kv_bytes else []
    if connector is not None:
        argv += ["--kv-transfer-config", json.dumps(connector)]
    return Line(name=name, argv=tuple(argv), port=port, env={**kit.env, **(env or {})})


def cache_server(
    kit: Kit,
    name: str,
    port: int,
    http_port: int,
    cpu_gb: int,
    *flags: str,
    chunk_size: int | None = None,
) -> Line:
    """Return one `lmcache server`; cpu_gb is GiB."""
    argv = [kit.python, "-m", "lmcache.cli.main", "server", "--port", str(port)]
    argv += ["--http-port", str(http_port), "--chunk-size", str(chunk_size or kit.chunk_size)]
    argv += ["--l1-size-gb", str(cpu_gb), "--eviction-policy", "LRU", *kit.cache_server_argv]
    return Line(
        name=name,
        argv=(*argv, *flags),
        port=http_port,
        ready_path="/healthcheck",
        env=kit.env,
    )
