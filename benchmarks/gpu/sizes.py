"""How large the kit's deployments are: what a bundle is told beyond its profile."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

ENGINE_ENV = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "LMCACHE_TRACK_USAGE": "false",
    "VLLM_HOST_IP": "127.0.0.1",  # a machine without a network has no other
    "VLLM_USE_FLASHINFER_SAMPLER": "0",  # packed engines come without flashinfer
}
# For workers on several GPUs. Their host is shared, and a program that uses NVLink multicast there
# can put its GPUs out of service for everyone, so each library that would is told not to.
NO_MULTICAST = {
    "NCCL_NVLS_ENABLE": "0",
    "NVSHMEM_DISABLE_NVLS": "1",
    "TORCH_SYMM_MEM_DISABLE_MULTICAST": "1",
    "VLLM_ALLREDUCE_USE_FLASHINFER": "0",
    "VLLM_ALLREDUCE_USE_SYMM_MEM": "0",
    "VLLM_USE_NCCL_SYMM_MEM": "0",
}
CHUNK_SIZE = 256
Given = Mapping[str, object]
Env = Mapping[str, str]
Bundle = tuple[str, Given]
Bundles = Mapping[str, Bundle]
"""The profile of each bundle and what differs from it."""
SHAPE: Given = {
    "load_format": "dummy",
    "gpu_memory_utilization": 0.3,
    "kv_cache_memory_bytes": 8_000_000_000,
}
UNCACHED_SHAPE: Given = {**SHAPE, "enable_prefix_caching": False}


def small(models: Mapping[str, str], workers: int, env: Env | None = None) -> dict[str, object]:
    """Return what makes a deployment so small that many run on one GPU."""
    sizes = {"gpu_memory_utilization": 0.1, "kv_cache_memory_bytes": 1 << 30}
    common = {"model.id": models["tiny"], "lmcache.cpu_cache_gb": 2}
    return {**common, **engine(workers, {**sizes, "enable_prefix_caching": False}, env)}


def large(
    models: Mapping[str, str],
    workers: int,
    args: Given = UNCACHED_SHAPE,
    env: Env | None = None,
) -> dict[str, object]:
    """Return what makes a deployment the 8B shape."""
    common = {"model.id": models["8b"], "model.max_len": 32768}
    return {**common, **engine(workers, args, env)}


def for_cpu(models: Mapping[str, str], env: Env | None = None) -> dict[str, object]:
    """Return what differs from a profile for a CPU."""
    given = {"model.id": models["tiny"], **engine(1, {"enable_prefix_caching": False}, env)}
    return {**given, "lmcache.chunk_size": CHUNK_SIZE, "model.max_len": 8192}


def engine(workers: int, given: Given, env: Env | None = None) -> dict[str, object]:
    """Spell engine arguments and the machine's variables out for the first workers."""
    machine = {name: ENGINE_ENV[name] for name in ("VLLM_HOST_IP", "VLLM_USE_FLASHINFER_SAMPLER")}
    machine |= env or {}
    found: dict[str, object] = {}
    for index in range(workers):
        found |= {f"workers[{index}].engine_args.{name}": value for name, value in given.items()}
        found |= {f"workers[{index}].env.{name}": f'"{text}"' for name, text in machine.items()}
    return found


def on_gpu(bundles: Bundles, gpu: int) -> Bundles:
    """Return the same bundles on one GPU."""
    return {
        name: (profile, {**given, **dict.fromkeys(_gpus(given), f"[{gpu}]")})
        for name, (profile, given) in bundles.items()
    }


def _gpus(given: Given) -> list[str]:
    return sorted({f"{key.split('.')[0]}.gpus" for key in given if key.startswith("workers[")})


def options(given: Given) -> Iterator[str]:
    """Spell them out for `dync build`."""
    for key, value in given.items():
        yield from ("--set", f"{key}={json.dumps(value) if isinstance(value, bool) else value}")
