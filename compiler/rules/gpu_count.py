"""Every worker has its own GPUs, and a CPU worker has none.

A group takes replicas x tensor_parallel_size GPUs, in the order written, each GPU once.

Accepted:
    name: tp
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    workers:
      - {role: aggregated, gpus: [0, 1], tensor_parallel_size: 2}

Rejected:
    name: tp
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    workers:
      - {role: aggregated, gpus: [0], tensor_parallel_size: 2}

Source: vLLM 0.32.0 vllm/config/parallel.py, world_size; found after loading as
"World size (2) is larger than the number of available GPUs (1)".
"""

from __future__ import annotations

from collections.abc import Iterator

from compiler.diagnostic import Diagnostic, Label, Rule, Severity
from compiler.topology import Accelerator, Topology, WorkerGroup

RULE = Rule(
    "gpu-count",
    Severity.ERROR,
    "a group of workers takes replicas x tensor_parallel_size GPUs, each once; "
    "on CPU it takes none",
)


def check(topology: Topology) -> Iterator[Diagnostic]:
    """Report groups with too few, too many or repeated GPUs."""
    for group in topology.workers:
        if topology.accelerator is Accelerator.CPU:
            yield from _on_cpu(topology, group)
        else:
            yield from _on_cuda(group)


def _on_cpu(topology: Topology, group: WorkerGroup) -> Iterator[Diagnostic]:
    if group.gpus:
        yield RULE.at(
            group.origin.of("gpus"),
            "gpus given, but accelerator is cpu",
            fix="remove gpus, or write accelerator: cuda",
            related=(Label(span=topology.origin.of("accelerator"), text="set here"),),
        )


def _on_cuda(group: WorkerGroup) -> Iterator[Diagnostic]:
    needed = group.replicas * group.tensor_parallel_size
    sum_text = f"{group.replicas} x {group.tensor_parallel_size} = {needed}"
    if len(group.gpus) != needed:
        given = (
            f"{len(group.gpus)} GPU{'' if len(group.gpus) == 1 else 's'}"
            if group.gpus
            else "no GPU"
        )
        more = len(group.gpus) // group.tensor_parallel_size
        is_whole = len(group.gpus) > needed and len(group.gpus) % group.tensor_parallel_size == 0
        sample = ", ".join((*group.gpus, *_free(group.gpus, needed))[:needed][:16])
        yield RULE.at(
            group.origin.of("gpus"),
            f"{given} for replicas x tensor_parallel_size = {sum_text}",
            fix=f"write gpus: [{sample}{', ...' if needed > 16 else ''}]"
            f"{f', or replicas: {more}' if is_whole else ''}",
        )
    seen: dict[str, int] = {}
    for index, gpu in enumerate(group.gpus):
        if gpu in seen:
            yield RULE.at(
                group.origin.of("gpus", index),
                f"GPU {gpu} stands twice in one group",
                fix="name each GPU of a group once",
                related=(Label(span=group.origin.of("gpus", seen[gpu]), text="first here"),),
            )
        seen.setdefault(gpu, index)


def _free(taken: tuple[str, ...], needed: int) -> list[str]:
    used = frozenset(taken)
    return [name for gpu in range(needed + len(taken)) if (name := str(gpu)) not in used]
