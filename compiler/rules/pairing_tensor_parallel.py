"""Prefill and decode split a model into numbers of parts that divide each other.

A decode rank reads whole shares of the prefill ranks' KV, or a share of one. NIXL finds out at the
first request, when both sides are healthy.

Accepted:
    name: tp
    stack: vllm-0.32
    topology: disagg
    model: {id: Qwen/Qwen3-0.6B}
    workers:
      - {role: prefill, gpus: [0, 1], tensor_parallel_size: 2}
      - {role: decode, gpus: [2, 3, 4, 5], tensor_parallel_size: 4}

Rejected:
    name: tp
    stack: vllm-0.32
    topology: disagg
    model: {id: Qwen/Qwen3-0.6B}
    workers:
      - {role: prefill, gpus: [0, 1], tensor_parallel_size: 2}
      - {role: decode, gpus: [2, 3, 4], tensor_parallel_size: 3}

Source: vLLM 0.25.1 and 0.32.0 distributed/kv_transfer/kv_connector/utils.py, tp_ratio.
"""

from __future__ import annotations

from collections.abc import Iterator

from compiler.diagnostic import Diagnostic, Label, Severity
from compiler.rules.report import finding
from compiler.topology import Arrangement, Role, Topology, WorkerGroup

ID = "pairing-tensor-parallel"
SEVERITY = Severity.ERROR
WHY = "a decode rank reads from whole ranks of prefill, or from a part of one"


def check(topology: Topology) -> Iterator[Diagnostic]:
    """Report each decode group with a prefill group whose split does not fit its own."""
    if topology.arrangement is not Arrangement.DISAGG:
        return
    for decode in _of(topology, Role.DECODE):
        for prefill in _of(topology, Role.PREFILL):
            ours, theirs = decode.tensor_parallel_size, prefill.tensor_parallel_size
            if max(ours, theirs) % min(ours, theirs) == 0:
                continue
            yield finding(
                ID,
                SEVERITY,
                WHY,
                decode.origin.of("tensor_parallel_size"),
                f"tensor_parallel_size is {ours} for decode and {theirs} for prefill",
                f"write tensor_parallel_size: {theirs} or {theirs * 2}, with as many gpus",
                related=(
                    Label(span=prefill.origin.of("tensor_parallel_size"), text="the other side"),
                ),
            )
            break


def _of(topology: Topology, role: Role) -> list[WorkerGroup]:
    return [group for group in topology.workers if group.role is role]
