"""Make the kit that travels to a GPU machine: the rig and where it finds things."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from compiler.library import load_stack

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


def prepare(kit: Path, prefix: Path, stack_name: str, accelerator: str) -> None:
    """Write the kit folder; prefix is where engines and models are on the GPU machine."""
    stack = load_stack(stack_name)
    platform = stack.platforms[accelerator]
    for folder in ("benchmarks/gpu", "demo"):
        skip = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, kit / folder, dirs_exist_ok=True, ignore=skip)
    shutil.copy(ROOT / "benchmarks/__init__.py", kit / "benchmarks/__init__.py")
    for script in ("run.sh", "install_engines.sh"):
        shutil.copy(HERE / script, kit / script)
    on_gpu = accelerator == "cuda"
    content = {
        "stack": stack_name,
        "accelerator": accelerator,
        "python": f"{prefix}/stacks/{stack_name}/bin/python",
        "worker_argv": [word for word in platform.worker_argv if word != "{python}"],
        "cache_server_argv": list(platform.cache_server_argv),
        "env": {
            "HF_HUB_OFFLINE": "1",
            "VLLM_NO_USAGE_STATS": "1",
            "LMCACHE_TRACK_USAGE": "false",
            "VLLM_HOST_IP": "127.0.0.1",
            "VLLM_USE_FLASHINFER_SAMPLER": "0",
        }
        | ({} if on_gpu else {"VLLM_CPU_KVCACHE_SPACE": "1"}),
        "models": {name: f"{prefix}/models/{name}" for name in ("tiny", "8b")},
        "chunk_size": 256,
    }
    (kit / "kit.json").write_text(json.dumps(content, indent=1))
