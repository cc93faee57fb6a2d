"""Prefill and decode agree on what NIXL compares or copies.

NIXL hashes model, dtype, cache dtype and attention backend at the first request, and copies whole
blocks: a difference starts well on both sides and fails every request.

Accepted:
    name: pair
    stack: vllm-0.32
    topology: disagg
    model: {id: Qwen/Qwen3-0.6B}
    workers:
      - {role: prefill, gpus: [0], engine_args: {block_size: 32}}
      - {role: decode, gpus: [1], engine_args: {block_size: 32}}

Rejected:
    name: pair
    stack: vllm-0.32
    topology: disagg
    model: {id: Qwen/Qwen3-0.6B}
    workers:
      - {role: prefill, gpus: [0], engine_args: {block_size: 32}}
      - {role: decode, gpus: [1]}

Source: vLLM 0.32.0 v1/nixl/metadata.py compute_nixl_compatibility_hash; on an H100 both sides
started and requests failed with NIXL_ERR_NOT_FOUND.
"""

from __future__ import annotations

from collections.abc import Iterator

from compiler.diagnostic import Diagnostic, Label, Severity
from compiler.rules.report import finding
from compiler.stacks.stack import Stack
from compiler.topology import Arrangement, Topology

ID = "pairing-engine-args"
SEVERITY = Severity.ERROR
WHY = "prefill and decode exchange KV blocks, so both must lay them out alike"


def check(topology: Topology, stack: Stack) -> Iterator[Diagnostic]:
    """Report each option in which a group differs from the first one."""
    if topology.arrangement is not Arrangement.DISAGG:
        return
    first = topology.workers[0]
    for group in topology.workers[1:]:
        for name in stack.paired_engine_args:
            ours, theirs = group.engine_args.get(name), first.engine_args.get(name)
            if ours != theirs:
                said = "the default" if ours is None else ours
                yield finding(
                    ID,
                    SEVERITY,
                    WHY,
                    group.origin.of("engine_args", name),
                    f"{name} is {said} for {group.role.value} and "
                    f"{'the default' if theirs is None else theirs} for {first.role.value}",
                    f"write {name}: {ours if theirs is None else theirs} in both engine_args",
                    related=(
                        Label(span=first.origin.of("engine_args", name), text="the other side"),
                    ),
                )
