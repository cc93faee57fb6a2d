"""VLLM_PORT is left alone, or far from what is in use.

It is no port of the API: vLLM takes it for the first of its internal ports, and counts upwards from
there in every engine that has it.

Accepted:
    name: ports
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    workers: [{role: aggregated, gpus: [0], env: {VLLM_PORT: 21000}}]

Rejected:
    name: ports
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    workers: [{role: aggregated, gpus: [0], env: {VLLM_PORT: "tcp://10.0.0.5:8000"}}]

Source: vLLM 0.32.0 vllm/envs.py, get_vllm_port; utils/network_utils.py, get_open_ports_list.
"""

from __future__ import annotations

from collections.abc import Iterator

from compiler.diagnostic import Diagnostic, Label, Rule, Severity
from compiler.resolve.allocation import Allocation, allocate
from compiler.stacks.stack import Stack
from compiler.topology import Topology, WorkerGroup

RULE = Rule(
    "internal-ports",
    Severity.ERROR,
    "VLLM_PORT is the first of an engine's internal ports, not the port of its API",
)
_NAME = "VLLM_PORT"


def check(topology: Topology, stack: Stack) -> Iterator[Diagnostic]:
    """Report a VLLM_PORT that is no port, that something listens on, or that engines share."""
    groups = [group for group in topology.workers if _NAME in group.env]
    taken = _taken(topology, allocate(topology, stack)) if groups else {}
    first: dict[int, WorkerGroup] = {}
    for group in groups:
        text, span = group.env[_NAME], group.origin.of("env", _NAME)
        if not text.isdecimal() or not 0 < int(text) < 65536:
            message = f"VLLM_PORT={text} is not a port, and vLLM ends on it"
            yield RULE.at(span, message, fix="remove it")
        elif int(text) in taken:
            message = f"VLLM_PORT={text} is where {taken[int(text)]} listens"
            yield RULE.at(span, message, fix="remove it", severity=Severity.WARNING)
        elif int(text) in first or group.replicas > 1:
            other = first.get(int(text))
            yield RULE.at(
                span,
                f"several engines take their internal ports from {text} on",
                fix="remove it, or give each worker a group and a VLLM_PORT of its own",
                related=(Label(span=other.origin.of("env", _NAME), text="and here"),)
                if other
                else (),
                why="engines that start together may find the same port free",
                severity=Severity.WARNING,
            )
        if text.isdecimal():
            first.setdefault(int(text), group)


def _taken(topology: Topology, allocation: Allocation) -> dict[int, str]:
    """Return who listens on the ports of the API and of cache servers."""
    taken = {topology.frontend.port: "the frontend"}
    for cache in allocation.caches:
        taken.update({cache.port: str(cache.name), cache.http_port: str(cache.name)})
    taken.update({slot.port: str(slot.name) for slot in allocation.workers})
    return taken
