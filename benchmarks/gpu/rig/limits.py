"""What this machine can do at best: copies between host and GPU, and a matrix product.

Run with the engines' Python; prints one JSON object. Medians of repeated, synchronised runs.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.gpu.rig.kit import Kit


def run(kit: Kit, _logs: Path) -> Any:
    """Measure in the engines' Python, which has torch."""
    done = subprocess.run(
        [kit.python, "-m", "benchmarks.gpu.rig.limits"], capture_output=True, text=True, check=True
    )
    print(done.stdout, flush=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    """Print what was measured."""
    import torch

    size = 1 << 30
    host = torch.empty(size, dtype=torch.uint8, pin_memory=True).random_()
    device = torch.empty(size, dtype=torch.uint8, device="cuda").random_()
    side = 8192
    left, right = (torch.randn(side, side, device="cuda", dtype=torch.bfloat16) for _ in "ab")

    def seconds(work: Callable[[], Any]) -> float:
        times = []
        for _ in range(8):
            torch.cuda.synchronize()
            began = time.perf_counter()
            work()
            torch.cuda.synchronize()
            times.append(time.perf_counter() - began)
        return statistics.median(times[2:])

    found = {
        "host_to_gpu_gb_per_s": size / seconds(lambda: device.copy_(host, non_blocking=True)) / 1e9,
        "gpu_to_host_gb_per_s": size / seconds(lambda: host.copy_(device, non_blocking=True)) / 1e9,
        "bf16_tflop_per_s": 2 * side**3 / seconds(lambda: left @ right) / 1e12,
    }
    print(json.dumps({name: round(value, 1) for name, value in found.items()}))


if __name__ == "__main__":
    main()
