"""Bundles of the suite `tcp`: prefill and decode on one GPU, UCX told otherwise in each."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from benchmarks.fault_injection import rewritten
from benchmarks.gpu.rig.nixl_pair import UCX_SAYS
from benchmarks.gpu.sizes import UNCACHED_SHAPE, Bundles, Env, Given, for_cpu, large

ZCOPY = "UCX_CUDA_IPC_ENABLE_GET_ZCOPY"
TLS: Mapping[str, Env] = {
    "tcp-as-built": {},
    "tcp-no-zcopy": {},
    "tcp-any-device": {"UCX_NET_DEVICES": "all"},
    "tcp-only": {"UCX_TLS": "tcp"},
    "tcp-staged": {"UCX_TLS": "tcp,cuda_copy,self"},
}
"""What both workers are told beyond what dync writes; tcp-no-zcopy loses what dync writes."""
APART: Mapping[str, Env] = {"tcp-apart": {}, "tcp-apart-any-device": {"UCX_NET_DEVICES": "all"}}
"""The same with a GPU for each, where there are two."""
SHORTER: Given = {
    **UNCACHED_SHAPE,
    "gpu_memory_utilization": 0.1,
    "kv_cache_memory_bytes": 1_500_000_000,
    "hf_overrides": "{num_hidden_layers: 9}",
    "enforce_eager": True,
}
"""A quarter of the 8B shape's layers, with its KV and its arithmetic for each: four pairs fit."""


def bundles(models: Mapping[str, str]) -> Bundles:
    """Return the pairs, on GPU 0, or one side there and one on GPU 1."""
    on_server = {"lmcache.mode": "multiprocess", "lmcache.cpu_cache_gb": 8}
    return {
        name: (profile, {**large(models, 2, SHORTER, {**UCX_SAYS, **env}), **on_server})
        for profile, pairs in (("disagg-one-gpu", TLS), ("disagg", APART))
        for name, env in pairs.items()
    }


def rehearsed(models: Mapping[str, str]) -> Bundles:
    """Return what a machine without a GPU runs of it."""
    uncached = {"workers[1].engine_args.enable_prefix_caching": False}
    return {"tcp-as-built": ("disagg-cpu", {**for_cpu(models, UCX_SAYS), **uncached})}


def rewrite(folder: Path) -> None:
    """Take dync's setting out of the built bundle that shows what UCX does by itself."""
    for script in (folder / "tcp-no-zcopy" / "bin").glob("*.sh"):
        if ZCOPY in script.read_text("utf-8"):
            rewritten(script, rf" +{ZCOPY}=on\n", "")
