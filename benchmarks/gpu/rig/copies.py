"""How fast the KV of a warm prompt can be at best: pinned copies of the same bytes, and GPU to GPU.

Run with any Python that has torch; prints one JSON object a line. Medians of synchronised runs.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

TOKENS = (7936, 23808)
"""Whole chunks of 256 in prompts of 8,000 and 24,000 tokens."""
TOKEN_BYTES = 147_456
CHUNK_BYTES = 256 * TOKEN_BYTES
RUNS = 6


def main() -> None:
    """Copy to each GPU alone, to both at once, back, in chunks, and from one to the other."""
    import torch

    gpus = range(min(2, torch.cuda.device_count()))
    size = TOKENS[-1] * TOKEN_BYTES
    hosts = [torch.empty(size, dtype=torch.uint8, pin_memory=True) for _ in gpus]
    devices = [torch.empty(size, dtype=torch.uint8, device=f"cuda:{gpu}").random_() for gpu in gpus]
    for host, device in zip(hosts, devices, strict=True):
        host.copy_(device)

    def synchronize() -> None:
        for gpu in gpus:
            torch.cuda.synchronize(gpu)

    for tokens in TOKENS:
        part = slice(0, tokens * TOKEN_BYTES)
        down = [(devices[gpu][part], hosts[gpu][part]) for gpu in gpus]
        for gpu in gpus:
            _report(f"host to gpu {gpu}", down[gpu : gpu + 1], synchronize)
            up = [(hosts[gpu][part], devices[gpu][part])]
            _report(f"gpu {gpu} to host", up, synchronize)
        _report("host to gpu 0 in chunks", down[:1], synchronize, CHUNK_BYTES)
        if len(gpus) == 2:
            _report("host to both at once", down, synchronize)
            across = [(devices[0][part], devices[1][part])]
            _report("gpu 1 to gpu 0", across, synchronize)


def _report(
    what: str,
    pairs: Sequence[tuple[Any, Any]],
    synchronize: Callable[[], None],
    piece: int | None = None,
) -> None:
    """Time copies from the second to the first of each pair, all at once."""
    times = []
    for _ in range(RUNS):
        synchronize()
        began = time.perf_counter()
        for target, source in pairs:
            for at in range(0, len(source), piece or len(source)):
                end = at + (piece or len(source))
                target[at:end].copy_(source[at:end], non_blocking=True)
        synchronize()
        times.append(time.perf_counter() - began)
    took_s, count = statistics.median(times[1:]), sum(len(source) for _, source in pairs)
    rate = round(count / took_s / 1e9, 1)
    row = {"what": what, "bytes": count, "seconds": round(took_s, 5), "gb_per_s": rate}
    print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
