"""One aggregated worker is its own frontend.

Without a second worker there is nothing to route, so the worker listens on frontend.port, unless
the stack's own frontend stands before every worker.

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

Source: this compiler's own choice of frontend, ARCHITECTURE.md.
"""

from __future__ import annotations

from collections.abc import Iterator

from compiler.diagnostic import Diagnostic, Label, Severity
from compiler.layout import needs_frontend
from compiler.rules.report import finding
from compiler.stacks.stack import Stack
from compiler.topology import Topology

ID = "worker-port"
SEVERITY = Severity.ERROR
WHY = "a single aggregated worker has no router before it: it listens on frontend.port itself"


def check(topology: Topology, stack: Stack) -> Iterator[Diagnostic]:
    """Report a port of the only worker that is not the frontend's."""
    if needs_frontend(topology, stack):
        return
    group = topology.workers[0]
    is_written = topology.frontend.origin.wrote("port")
    if group.port not in (None, topology.frontend.port):
        yield finding(
            ID,
            SEVERITY,
            WHY,
            group.origin.of("port"),
            f"port {group.port} differs from frontend.port {topology.frontend.port}"
            f"{'' if is_written else ' (the default)'}",
            f"remove this line, or write frontend.port: {group.port}",
            related=(Label(span=topology.frontend.origin.of("port"), text="frontend.port"),)
            if is_written
            else (),
        )
