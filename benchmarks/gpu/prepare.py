"""Make the kit that travels to a GPU machine: the rig, and bundles of this checkout's profiles."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gpu.faults import ON_CPU, ON_CUDA, Fault
from benchmarks.gpu.rig.exact import BY_ID
from benchmarks.gpu.rig.nixl_pair import UCX_SAYS
from benchmarks.gpu.rig.timing import BLOCK_SIZES, CHUNK_SIZES
from compiler.library import load_stack

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
ENGINE_ENV = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "LMCACHE_TRACK_USAGE": "false",
    "VLLM_HOST_IP": "127.0.0.1",  # a machine without a network has no other
    "VLLM_USE_FLASHINFER_SAMPLER": "0",  # packed engines come without flashinfer
}
FOR_CPU = {"VLLM_CPU_KVCACHE_SPACE": "1"}
CHUNK_SIZE = 256
# The engine without a cache that Dynamo's deployments are held against.
VLLM_SERVER = ["-m", "vllm.entrypoints.openai.api_server", "--model", "{model}"]
Given = Mapping[str, object]
Bundles = Mapping[str, tuple[str, Given]]
"""The profile of each bundle and what differs from it."""
# What is launched to show that it caches rightly: the bundle's name, its profile, how many groups
# of workers that has, and what differs for one GPU.
Proofs = Mapping[str, tuple[str, int, Given]]
VLLM: Proofs = {
    "agg": ("agg", 1, {}),
    "agg-in-process": ("agg-in-process", 1, {}),
    "disagg-one-gpu": ("disagg-one-gpu", 2, {}),
}
DYNAMO: Proofs = {
    "dynamo-agg": ("dynamo-agg", 1, {}),
    "dynamo-agg-in-process": ("agg-in-process", 1, {}),
    "dynamo-disagg": ("disagg-one-gpu", 2, {}),
}
SHAPE: Given = {
    "load_format": "dummy",
    "gpu_memory_utilization": 0.3,
    "kv_cache_memory_bytes": 8_000_000_000,
}
UNCACHED_SHAPE: Given = {**SHAPE, "enable_prefix_caching": False}
# Dynamo's frontend gives no more (its lib/llm/src/protocols/openai/validate.rs, MAX_LOGPROBS), and
# names tokens by their text alone.
FIVE = {"logprobs": 5}
COMPLETES = {"DYN_ENDPOINT_TYPES": "completions"}  # the made model has no chat template


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Where a kit runs: prefix, of engines and models; gpu, of all but what takes two."""

    prefix: Path
    stack: str
    accelerator: str
    gpu: int = 0
    first_port: int = 20000


def prepare(kit: Path, machine: Machine) -> None:
    """Write the kit folder; two kits with other first ports and GPUs run beside each other."""
    prefix, stack_name, accelerator = machine.prefix, machine.stack, machine.accelerator
    stack = load_stack(stack_name)
    platform = stack.platforms[accelerator]
    for folder in ("benchmarks/gpu", "demo", "compiler", "schemas", "templates"):
        skip = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, kit / folder, dirs_exist_ok=True, ignore=skip)
    shutil.copy(ROOT / "benchmarks/__init__.py", kit / "benchmarks/__init__.py")
    for script in ("run.sh", "install_engines.sh"):
        shutil.copy(HERE / script, kit / script)
    on_cpu = accelerator == "cpu"
    models = {name: f"{prefix}/models/{name}" for name in ("tiny", "8b")}
    is_dynamo = bool(stack.discovery)
    faults: Mapping[str, Fault] = {} if is_dynamo else ON_CPU if on_cpu else ON_CUDA
    if on_cpu:
        profile = "dynamo-agg-cpu" if is_dynamo else "agg-cpu"
        profiles = {profile: profile} | {name: fault.profile for name, fault in faults.items()}
        bundles = rehearsed(models, profiles, is_dynamo=is_dynamo)
    elif is_dynamo:
        bundles = on_gpu(proved(models, DYNAMO), machine.gpu)
    else:
        planted: Proofs = {
            name: (
                fault.profile,
                fault.workers,
                {} if fault.graphs else _engine(fault.workers, {"enforce_eager": True}),
            )
            for name, fault in faults.items()
        }
        one = {**proved(models, {**VLLM, **planted}), **timed(models)}
        bundles = {**on_gpu(one, machine.gpu), **two_gpus(models)}
    shutil.rmtree(kit / "bundles", ignore_errors=True)
    for number, (name, (profile, given)) in enumerate(bundles.items()):
        first_port = machine.first_port + 100 * number
        common = {
            "name": name,
            "stack": stack_name,
            "deploy.prefix": str(prefix),
            "frontend.port": first_port,
            "deploy.first_port": first_port + 1,
        }
        _build(profile, kit / "bundles" / name, {**common, **given})
    for name, fault in faults.items():
        fault.plant(kit / "bundles" / name)
    content = {
        "stack": stack_name,
        "accelerator": accelerator,
        "python": f"{prefix}/stacks/{stack_name}/bin/python",
        "worker_argv": VLLM_SERVER if is_dynamo else [*platform.worker_argv[1:]],
        "likeliest": FIVE if is_dynamo else BY_ID,
        "cache_server_argv": ["--supported-transfer-mode", "auto"] if on_cpu else [],
        "env": ENGINE_ENV | (FOR_CPU if on_cpu else {"CUDA_VISIBLE_DEVICES": str(machine.gpu)}),
        "models": models,
        "chunk_size": CHUNK_SIZE,
        "proved": [name for name in bundles if not name.startswith(("timed-", "fault-"))],
        "faults": {name: fault.says for name, fault in faults.items()},
    }
    (kit / "kit.json").write_text(json.dumps(content, indent=1))


def proved(models: Mapping[str, str], proofs: Proofs) -> Bundles:
    """Give the profiles for one GPU, small enough to run side by side."""
    small = {"gpu_memory_utilization": 0.1, "kv_cache_memory_bytes": 1 << 30}
    common = {"model.id": models["tiny"], "lmcache.cpu_cache_gb": 2}
    args = {**small, "enable_prefix_caching": False}
    more = COMPLETES if proofs is DYNAMO else {}
    return {
        name: (profile, {**common, **_engine(workers, args, more), **given})
        for name, (profile, workers, given) in proofs.items()
    }


def on_gpu(bundles: Bundles, gpu: int) -> Bundles:
    """Give the same bundles on one GPU."""
    return {
        name: (profile, {**given, **dict.fromkeys(_gpus(given), f"[{gpu}]")})
        for name, (profile, given) in bundles.items()
    }


def _gpus(given: Given) -> set[str]:
    return {f"{key.split('.')[0]}.gpus" for key in given if key.startswith("workers[")}


def timed(models: Mapping[str, str]) -> Bundles:
    """Give the deployments of the 8B shape that are timed; a cache's own is not the engine's."""
    cached = _large(models, 1)
    sizes = {
        f"timed-chunk-{size}": ("agg", {**cached, "lmcache.chunk_size": size})
        for size in CHUNK_SIZES
    }
    blocks = {
        f"timed-disagg-blocks-{size}": (
            "disagg-one-gpu",
            _large(models, 2, {**UNCACHED_SHAPE, "block_size": size}),
        )
        for size in BLOCK_SIZES
    }
    return {
        "timed-off": ("agg", {**_large(models, 1, SHAPE), "lmcache.enabled": False}),
        "timed-in-process": ("agg-in-process", cached),
        "timed-multiprocess": ("agg", cached),
        **sizes,
        **blocks,
    }


def two_gpus(models: Mapping[str, str]) -> Bundles:
    """Give what is timed on two GPUs: decode on 0 and prefill on 1, or a whole worker on each."""
    both = _large(models, 2, env=UCX_SAYS)
    in_process = {**both, "lmcache.mode": "in_process"}  # multiprocess is refused beside NIXL
    return {
        "timed-two-disagg": ("disagg", in_process),
        "timed-two-disagg-off": ("disagg", {**both, "lmcache.enabled": False}),
        "timed-two-agg": ("agg-shared-cache", _large(models, 1)),
    }


def _large(
    models: Mapping[str, str],
    workers: int,
    args: Given = UNCACHED_SHAPE,
    env: Mapping[str, str] | None = None,
) -> dict[str, object]:
    common = {"model.id": models["8b"], "model.max_len": 32768}
    return {**common, **_engine(workers, args, env)}


def rehearsed(
    models: Mapping[str, str], profiles: Mapping[str, str], *, is_dynamo: bool
) -> Bundles:
    """Give what a machine without a GPU can run of it; profiles by the names of their bundles."""
    more = COMPLETES if is_dynamo else {}
    given = {"model.id": models["tiny"], **_engine(1, {"enable_prefix_caching": False}, more)}
    given |= {"lmcache.chunk_size": CHUNK_SIZE, "model.max_len": 8192}
    return {name: (profile, given) for name, profile in profiles.items()}


def _engine(workers: int, given: Given, env: Mapping[str, str] | None = None) -> dict[str, object]:
    """Spell engine arguments and the machine's variables out for the first workers."""
    machine = {name: ENGINE_ENV[name] for name in ("VLLM_HOST_IP", "VLLM_USE_FLASHINFER_SAMPLER")}
    machine |= env or {}
    found: dict[str, object] = {}
    for index in range(workers):
        found |= {f"workers[{index}].engine_args.{name}": value for name, value in given.items()}
        found |= {f"workers[{index}].env.{name}": f'"{text}"' for name, text in machine.items()}
    return found


def _build(profile: str, bundle: Path, given: Given) -> None:
    command = [sys.executable, "-m", "compiler", "build", f"profiles/{profile}.yaml"]
    subprocess.run([*command, "-o", str(bundle), *_options(given)], check=True, cwd=ROOT)


def _options(given: Given) -> Iterator[str]:
    for key, value in given.items():
        yield from ("--set", f"{key}={json.dumps(value) if isinstance(value, bool) else value}")
