"""A worker's GPUs are named in one form: numbers, GPU UUIDs or MIG UUIDs.

The list is read up to the first entry of another form, and what follows is not there.

Accepted:
    name: form
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    workers: [{role: aggregated, gpus: [0, 1], tensor_parallel_size: 2}]

Rejected:
    name: form
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    workers:
      - {role: aggregated, gpus: [0, GPU-8a56a4bc-1], tensor_parallel_size: 2}

Source: torch 2.13.0 cuda/__init__.py, _parse_visible_devices; vLLM 0.32.0 engine/arg_utils.py,
_resolve_device_ids.
"""

from __future__ import annotations

from collections.abc import Iterator

from compiler.diagnostic import Diagnostic, Label, Rule, Severity
from compiler.topology import Topology

RULE = Rule(
    "gpu-form",
    Severity.ERROR,
    "CUDA_VISIBLE_DEVICES is a list of numbers, of GPU UUIDs or of MIG UUIDs",
)


def check(topology: Topology) -> Iterator[Diagnostic]:
    """Report the first GPU of each worker that is named otherwise than those before it."""
    for group in topology.workers:
        size = group.tensor_parallel_size
        for start in range(0, len(group.gpus), size):
            seat = group.gpus[start : start + size]
            odd = next((at for at, gpu in enumerate(seat) if _form(gpu) != _form(seat[0])), None)
            if odd is not None:
                yield RULE.at(
                    group.origin.of("gpus", start + odd),
                    f"GPU {seat[odd]} is named otherwise than {seat[0]}",
                    fix="name all GPUs of a worker as numbers, or all as nvidia-smi -L lists them",
                    related=(Label(span=group.origin.of("gpus", start), text="its first GPU"),),
                )


def _form(gpu: str) -> str:
    return gpu[:4] if gpu.startswith(("GPU-", "MIG-")) else "number"
