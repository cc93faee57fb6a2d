"""Engines that share a GPU leave each other room.

Each engine claims gpu_memory_utilization of its GPU at start; two defaults do not fit, and the
second one dies after loading.

Accepted:
    name: shared
    stack: vllm-0.32
    topology: disagg
    model: {id: Qwen/Qwen3-0.6B}
    workers:
      - {role: prefill, gpus: [0], engine_args: {gpu_memory_utilization: 0.4}}
      - {role: decode, gpus: [0], engine_args: {gpu_memory_utilization: 0.4}}

Rejected:
    name: shared
    stack: vllm-0.32
    topology: disagg
    model: {id: Qwen/Qwen3-0.6B}
    workers:
      - {role: prefill, gpus: [0]}
      - {role: decode, gpus: [0]}

Source: vLLM 0.32.0 v1/worker/utils.py, "Free memory on device … is less than desired GPU memory
utilization"; more than 0, at most 1, default 0.92, config/cache.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from compiler.diagnostic import Diagnostic, Label, Rule, Severity
from compiler.resolve.allocation import allocate
from compiler.stacks.stack import Stack
from compiler.topology import Accelerator, Topology, WorkerGroup

RULE = Rule(
    "gpu-overcommit",
    Severity.ERROR,
    "each engine claims gpu_memory_utilization of its GPU when it starts; together at most 0.95",
)
LIMIT = 0.95


def check(topology: Topology, stack: Stack) -> Iterator[Diagnostic]:
    """Report each GPU that more is asked of than it has."""
    platform = stack.platforms.get(topology.accelerator.value)
    if platform is None or topology.accelerator is not Accelerator.CUDA:
        return
    shares: dict[str, list[tuple[WorkerGroup, float]]] = {}
    for slot in allocate(topology, stack).workers:
        given = slot.group.engine_args.get("gpu_memory_utilization")
        share = platform.gpu_memory_utilization if not isinstance(given, (int, float)) else given
        for gpu in slot.gpus:
            shares.setdefault(gpu, []).append((slot.group, float(share)))
    for gpu, claims in shares.items():
        total = sum(share for _, share in claims)
        if len(claims) > 1 and total > LIMIT:
            fair = int(LIMIT / len(claims) * 100) / 100
            yield RULE.at(
                claims[-1][0].origin.of("gpus"),
                f"{len(claims)} workers claim {total:.2f} of GPU {gpu}",
                fix="give each a GPU of its own, or "
                f"engine_args: {{gpu_memory_utilization: {fair}}}",
                label=f"claims {claims[-1][1]:g}",
                related=(
                    Label(span=claims[0][0].origin.of("gpus"), text=f"claims {claims[0][1]:g}"),
                ),
            )
