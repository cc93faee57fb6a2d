"""Run suites on this machine; results in OUT/<suite>.json, logs in OUT/logs.tar.xz."""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tarfile
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.gpu.rig import (
    beat,
    exact,
    limits,
    models,
    nixl_pair,
    pairs,
    prove,
    restart,
    tcp,
    tiers,
    timing,
    trace,
    truth,
)
from benchmarks.gpu.rig.kit import KIT, Kit

SUITES: dict[str, Callable[[Kit, Path], Any]] = {
    "nixl": lambda kit, logs: nixl_pair.run(kit.python, logs / "nixl"),
    "exact": exact.run,
    "pairs": pairs.run,
    "restart": restart.run,
    "limits": limits.run,
    "prove": prove.run,
    "prove-four": prove.on_four,
    "tiers": tiers.run,
    "truth": truth.run,
    "in-process": timing.in_process,
    "multiprocess": timing.multiprocess,
    "hashing": timing.hashing,
    "chunks": timing.chunks,
    "disaggregated": timing.disaggregated,
    "two-gpus": timing.two_gpus,
    "four-gpus": timing.four_gpus,
    "server-threads": timing.server_threads,
    **{name: beat.wave(name) for name in beat.WAVES},
    "beat-these": beat.chosen,
    "beat-right": beat.right,
    "trace": trace.run,
    "models": models.run,
    "tcp": tcp.run,
}
SHAPES = {"tiny": "four-layers", "8b": "8b"}


def main() -> int:
    """Run the suites that were named, each whatever became of the one before."""
    parser = argparse.ArgumentParser(prog="rig", description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("suites", nargs="+", help="in this order; one+other: side by side")
    arguments = parser.parse_args()
    groups = [group.split("+") for group in arguments.suites]
    unknown = [suite for group in groups for suite in group if suite not in SUITES]
    if unknown:
        parser.error(f"no suite {', '.join(unknown)}; there are {', '.join(SUITES)}")
    kit = Kit.read()
    (arguments.out / "logs").mkdir(parents=True, exist_ok=True)
    for model, shape in SHAPES.items():
        make = ["demo/make_model.py", kit.models[model], "--random", "--shape", shape]
        subprocess.run([kit.python, *make], check=True, cwd=KIT)
    held = True
    for group in groups:
        with ThreadPoolExecutor(len(group)) as pool:
            held &= all(pool.map(lambda suite: one(suite, kit, arguments.out), group))
        with tarfile.open(arguments.out / "logs.tar.xz", "w:xz") as archive:
            archive.add(arguments.out / "logs", "logs")
    return 0 if held else 1


def one(suite: str, kit: Kit, out: Path) -> bool:
    """Run one suite and leave its JSON; a failure is told and kept, and the others still run."""
    print(f"== {suite}", flush=True)
    began = time.monotonic()
    result: dict[str, Any] = {"machine": machine()}
    try:
        result["found"] = SUITES[suite](kit, out / "logs" / suite)
    except Exception:  # whatever it was
        result["error"] = traceback.format_exc()
        print(result["error"], flush=True)
    result["took_s"] = round(time.monotonic() - began, 1)
    (out / f"{suite}.json").write_text(json.dumps(result, indent=1))
    print(f"== {suite} took {result['took_s']} s", flush=True)
    return "error" not in result


def machine() -> dict[str, str]:
    """Say what this was run on."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        gpu = subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        gpu = "none"
    return {"gpu": gpu, "kernel": platform.release(), "python": sys.version.split()[0]}


if __name__ == "__main__":
    sys.exit(main())
