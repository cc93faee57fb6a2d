"""Every small bundle by its own launch.sh: it hits, NIXL moves, and answers as without.

`dync verify` is asked as well, of each beside the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.gpu.rig import lines
from benchmarks.gpu.rig.bundle import Launched, launched, workers
from benchmarks.gpu.rig.engine import Running, start, wait_ready
from benchmarks.gpu.rig.exact import HITS, WRONG, compare
from benchmarks.gpu.rig.kit import Kit
from benchmarks.gpu.rig.prompts import text
from benchmarks.gpu.rig.truth import dync
from demo.client import first_logprobs, metric

LENGTHS = (256, 257, 400, 512, 513, 700, 768, 3000, 6000)
MOVED = "vllm:nixl_bytes_transferred_sum"


def run(kit: Kit, logs: Path) -> dict[str, Any]:
    """Launch the small bundles beside one engine without a cache, and compare."""
    return run_those(kit, logs, (*kit.proved, *kit.refused))


def on_four(kit: Kit, logs: Path) -> dict[str, Any]:
    """Do the same with those for four GPUs."""
    return run_those(kit, logs, kit.proved_on_four)


def run_those(kit: Kit, logs: Path, names: Sequence[str]) -> dict[str, Any]:
    """Do it with some bundles."""
    plain = lines.worker(kit, "plain", kit.spare_port, "--no-enable-prefix-caching")
    with ExitStack() as stack:
        reference = start(plain, logs)
        stack.callback(reference.kill)
        bundles = stack.enter_context(launched(names, logs, 300))
        if not wait_ready([reference], 120):
            raise RuntimeError("the engine without a cache is not ready")
        pool = stack.enter_context(ThreadPoolExecutor(len(bundles) or 1))
        found = pool.map(lambda bundle: _prove(bundle, reference, kit), bundles)
        return {bundle.name: row for bundle, row in zip(bundles, found, strict=True)}


def _total(bundle: Launched, role: str, name: str) -> float:
    """Add a counter up over the workers of a role: a router may ask any of them."""
    shown = [item["metrics"] for item in workers(bundle.plan) if item["role"] == role]
    return sum(metric(url, name) for url in shown)


def _prove(bundle: Launched, reference: Running, kit: Kit) -> dict[str, Any]:
    def ask(url: str, model: str, prompt: str) -> dict[str, float]:
        return first_logprobs(url, model, prompt, **kit.likeliest)

    role = "prefill" if bundle.plan["topology"] == "disagg" else "aggregated"
    rows = []
    for length in LENGTHS:
        prompt = text(length, f"{bundle.name}-{length}")
        alone = ask(f"{reference.line.url}/v1", "m", prompt)
        cold = ask(bundle.url, bundle.plan["served_name"], prompt)
        before = _total(bundle, role, HITS)
        warm = ask(bundle.url, bundle.plan["served_name"], prompt)
        hits = int(_total(bundle, role, HITS) - before)
        row: dict[str, Any] = {
            "length": length,
            "hits": hits,
            "cold": compare(length, 0, alone, cold).difference,
            "warm": compare(length, 0, alone, warm).difference,
        }
        if max(row["cold"], row["warm"]) > WRONG:
            row["answers"] = {"alone": alone, "cold": cold, "warm": warm}
        rows.append(row)
    result: dict[str, Any] = {"ready_s": bundle.ready_s, "rows": rows}
    if role == "prefill":
        result["nixl_bytes"] = _total(bundle, "decode", MOVED)
    result["verify"] = dync(kit, "verify", bundle.name)
    most = max(row["warm"] for row in rows)
    hit = sum(row["hits"] > 0 for row in rows)
    print(
        f"  {bundle.name}: {hit} of {len(rows)} hit, differs by {most} at most; "
        f"NIXL bytes {result.get('nixl_bytes')}; verify ends with {result['verify']['status']}",
        flush=True,
    )
    return result
