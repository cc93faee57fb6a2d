"""A worker listens where its stack lets it.

Without a second worker there is nothing to route, so the worker listens on frontend.port, unless
the stack's own frontend or a proxy stands before it. Some workers cannot listen on every port.

Accepted:
    name: one
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    frontend: {port: 9000}
    workers: [{role: aggregated, gpus: [0]}]

Rejected:
    name: one
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    frontend: {port: 9000}
    workers: [{role: aggregated, gpus: [0], port: 9001}]

Source: this compiler's own choice of frontend, docs/design/choices.md; worker_port_max of the
stacks.
"""

from __future__ import annotations

from collections.abc import Iterator

from compiler.diagnostic import Diagnostic, Label, Rule, Severity
from compiler.resolve.allocation import allocate, is_entry_a_worker
from compiler.stacks.stack import Stack
from compiler.topology import Topology

RULE = Rule(
    "worker-port",
    Severity.ERROR,
    "a single aggregated worker has no router before it: it listens on frontend.port itself",
)


def check(topology: Topology, stack: Stack) -> Iterator[Diagnostic]:
    """Report a port that the stack's workers cannot have, or a lone worker's that clients miss."""
    if not is_entry_a_worker(topology, stack):
        yield from _too_high(topology, stack)
        return
    group = topology.workers[0]
    is_written = topology.frontend.origin.wrote("port")
    if group.port not in (None, topology.frontend.port):
        yield RULE.at(
            group.origin.of("port"),
            f"port {group.port} differs from frontend.port {topology.frontend.port}"
            f"{'' if is_written else ' (the default)'}",
            fix=f"remove this line, or write frontend.port: {group.port}",
            related=(Label(span=topology.frontend.origin.of("port"), text="frontend.port"),)
            if is_written
            else (),
        )


def _too_high(topology: Topology, stack: Stack) -> Iterator[Diagnostic]:
    limit = stack.worker_port_max
    for slot in allocate(topology, stack).workers:
        if limit < slot.port < 65536:  # rule port-conflict reports what no process can have
            yield RULE.at(
                slot.group.origin.of("port"),
                f"{slot.name} would listen on port {slot.port}",
                fix=f"write a port, or a deploy.first_port, of at most {limit}",
                why=f"the workers of stack {stack.name} start on no port above {limit}",
            )
            return
