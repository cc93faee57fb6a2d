"""A combination of topology and LMCache mode was run on its stack, or it is said that it was not.

What a stack has for a combination that nobody ran yet follows from the releases' sources. That it
caches, and answers as it would without a cache, is then shown by its first start.

Accepted:
    name: run
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    workers: [{role: aggregated, gpus: [0]}]

Reported:
    name: paper
    stack: dynamo-1.0
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    lmcache: {mode: in_process}
    workers: [{role: aggregated, gpus: [0]}]

Source: `runs` of each platform in schemas/stacks/*.yaml; what was run, and how, stands in
benchmarks/gpu.md and in tests/engine.
"""

from __future__ import annotations

from collections.abc import Iterator

from compiler.diagnostic import Diagnostic, Rule, Severity
from compiler.stacks.combinations import Combination, Standing, all_known, known
from compiler.stacks.stack import Stack
from compiler.topology import Topology

RULE = Rule(
    "combination-on-paper",
    Severity.INFO,
    "what dync writes for it follows from the releases' sources; that it caches is not shown yet",
)


def check(topology: Topology, stack: Stack) -> Iterator[Diagnostic]:
    """Report once that a profile's combination was not run."""
    if topology.accelerator.value not in stack.platforms:
        return
    if not any(topology.uses_lmcache(group) for group in topology.workers):
        return
    combination = Combination(topology=topology.kind, mode=topology.lmcache.mode)
    if known(stack, topology.accelerator, combination).standing is not Standing.ON_PAPER:
        return
    run = [
        str(item.combination)
        for item in all_known(stack, topology.accelerator)
        if item.standing is Standing.RUN
    ]
    yield RULE.at(
        topology.origin.of("stack"),
        f"{combination} was not run on {stack.name} ({topology.accelerator.value}) yet",
        fix="nothing to do: dync up and dync install prove it at the first start"
        + (f"; was run: {', '.join(run)}" if run else ""),
    )
