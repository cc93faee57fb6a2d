"""The stack finds its workers as the profile asks.

A router that is given its workers' URLs discovers nothing, and a release knows only some backends;
an endpoint that nothing reads is a mistake.

Accepted:
    name: found
    stack: dynamo-1.6
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    discovery: {backend: etcd, etcd_endpoints: ["http://127.0.0.1:2379"]}
    workers: [{role: aggregated, gpus: [0]}]

Rejected:
    name: found
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    discovery: {backend: etcd}
    workers: [{role: aggregated, gpus: [0]}]

Source: ai-dynamo 1.6.1 dynamo/common/configuration/groups/runtime_args.py, --discovery-backend and
--event-plane; vllm-router 0.1.17 takes URLs only.
"""

from __future__ import annotations

from collections.abc import Iterator

from compiler.diagnostic import Diagnostic, Rule, Severity
from compiler.resolve.discovery import ways
from compiler.stacks.stack import Stack
from compiler.topology import Topology

RULE = Rule(
    "discovery",
    Severity.ERROR,
    "the stack says how its processes can find each other; anything else is not read, or fails",
)
_ENDPOINTS = {"etcd_endpoints": ("backend", "etcd"), "nats_server": ("events", "nats")}


def check(topology: Topology, stack: Stack) -> Iterator[Diagnostic]:
    """Report what the stack does not offer, and endpoints that nothing would use."""
    asked = topology.discovery
    if not stack.discovery:
        if topology.origin.wrote("discovery"):
            yield RULE.at(
                topology.origin.key("discovery"),
                f"the frontend of stack {stack.name} is given its workers and discovers none",
                fix="remove discovery",
            )
        return
    refused = False
    for role, way in (("backend", asked.backend), ("events", asked.events)):
        known = stack.discovery[role]
        if way is not None and way not in known:
            refused = True
            yield RULE.at(
                asked.origin.of(role),
                f"stack {stack.name} has no discovery.{role} {way}",
                fix=f"write {role}: {' or '.join(known)}",
            )
    chosen = ways(topology, stack)
    for key, (role, way) in _ENDPOINTS.items():
        if asked.origin.wrote(key) and chosen[role] != way and not refused:
            yield RULE.at(
                asked.origin.key(key),
                f"{key} is given, but discovery.{role} is {chosen[role]}",
                fix=f"remove it, or write {role}: {way}",
            )
