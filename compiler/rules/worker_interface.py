"""What a worker opens beside its ports is at the loopback interface, and may be at no other.

UCX, gloo and NCCL listen where these variables say, ask nobody for a key, and hand out KV or take
part in an engine's collectives. All processes of a deployment are on one host.

Accepted:
    name: interface
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    workers: [{role: aggregated, gpus: [0], env: {NCCL_SOCKET_IFNAME: "=lo"}}]

Reported:
    name: interface
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    workers: [{role: aggregated, gpus: [0], env: {NCCL_SOCKET_IFNAME: eth0}}]

Source: run: NIXL 1.5.1 (UCX), gloo of torch 2.13.0 and NCCL of nvidia-nccl-cu13, with and without.
"""

from __future__ import annotations

from collections.abc import Iterator

from compiler.diagnostic import Diagnostic, Rule, Severity
from compiler.resolve.connectors import has_transfer
from compiler.stacks.stack import Stack
from compiler.topology import Topology

RULE = Rule(
    "worker-interface",
    Severity.WARNING,
    "what engines open beside their ports asks for no key, and one host needs no network for it",
)
_LOOPBACK = "lo"


def check(topology: Topology, stack: Stack) -> Iterator[Diagnostic]:
    """Report variables that move what the stack keeps on loopback to another interface."""
    kept = dict(stack.starts["worker"].env)
    if has_transfer(topology, stack):
        kept.update(stack.platforms[topology.accelerator.value].transfer_env)
    for group in topology.workers:
        for name, value in group.env.items():
            if kept.get(name) == _LOOPBACK and value not in (_LOOPBACK, f"={_LOOPBACK}"):
                yield RULE.at(
                    group.origin.of("env", name),
                    f"with {name}={value} this worker can be reached from the network",
                    fix=f"remove it; the plan says {_LOOPBACK}",
                )
