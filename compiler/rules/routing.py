"""The stack's router knows the routing policy.

Accepted:
    name: routed
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    frontend: {routing: cache_aware}
    workers: [{role: aggregated, gpus: [0, 1], replicas: 2}]

Rejected:
    name: routed
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    frontend: {routing: roundrobin}
    workers: [{role: aggregated, gpus: [0, 1], replicas: 2}]

Source: vllm-router 0.1.17 vllm_router/router_args.py, --policy.
"""

from __future__ import annotations

from collections.abc import Iterator

from compiler.diagnostic import Diagnostic, Rule, Severity, suggestion
from compiler.stacks.stack import Stack
from compiler.topology import Topology

RULE = Rule(
    "routing",
    Severity.ERROR,
    "the stack's router offers a closed set of policies and exits on another",
)


def check(topology: Topology, stack: Stack) -> Iterator[Diagnostic]:
    """Report a policy that the router lacks."""
    asked = topology.frontend.routing
    if asked is None or asked in stack.routing:
        return
    near = suggestion(asked, stack.routing)
    yield RULE.at(
        topology.frontend.origin.of("routing"),
        f"routing {asked!r} is not one of {', '.join(stack.routing)}",
        fix=f"write routing: {near or 'round_robin'}",
        label=f"did you mean {near}?" if near else "",
    )
