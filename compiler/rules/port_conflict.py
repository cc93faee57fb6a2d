"""No two processes of one host listen on the same port.

vLLM sets SO_REUSEPORT: two servers on one port both start, and requests are split between them.

Accepted:
    name: ports
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    workers: [{role: aggregated, gpus: [0, 1], replicas: 2, port: 8200}]

Rejected:
    name: ports
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    workers:
      - {role: aggregated, gpus: [0], port: 8200}
      - {role: aggregated, gpus: [1], port: 8200}

Source: vllm-project/vllm issue 39762.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from compiler.diagnostic import Diagnostic, Label, Severity, Span
from compiler.plan import Plan, ProcessName
from compiler.rules.report import finding
from compiler.topology import Origin

ID = "port-conflict"
SEVERITY = Severity.ERROR
WHY = "two servers on one port may both start (SO_REUSEPORT) and share the requests between them"


def check(
    plans: Sequence[tuple[Plan, Mapping[ProcessName, Origin]]],
) -> Iterator[Diagnostic]:
    """Report each port that is taken twice, within a plan or between plans of one host."""
    owners: dict[int, tuple[Plan, str, str, Span]] = {}
    for plan, origins in plans:
        for process in plan.processes:
            for listen in process.listens:
                span = origins[process.name].of("port")
                if not 0 < listen.port < 65536:
                    yield _beyond(process.name, listen.port, span)
                elif listen.port in owners:
                    yield _conflict(plan, process.name, listen.purpose, span, owners[listen.port])
                else:
                    owners[listen.port] = (plan, process.name, listen.purpose, span)


def _beyond(name: str, port: int, span: Span) -> Diagnostic:
    return finding(
        ID,
        SEVERITY,
        WHY,
        span,
        f"{name} would listen on port {port}, beyond 65535",
        "write a lower port or a lower deploy.first_port",
    )


def _conflict(
    plan: Plan, name: str, purpose: str, span: Span, owner: tuple[Plan, str, str, Span]
) -> Diagnostic:
    other_plan, other_name, other_purpose, other_span = owner
    same = plan is other_plan
    port = next(
        listen.port
        for process in other_plan.processes
        if process.name == other_name
        for listen in process.listens
        if listen.purpose == other_purpose
    )
    ours = name if same else f"{plan.name}/{name}"
    theirs = other_name if same else f"{other_plan.name}/{other_name}"
    return finding(
        ID,
        SEVERITY,
        WHY,
        span,
        f"port {port} is taken twice: {theirs} ({other_purpose}) and {ours} ({purpose})",
        "give one of them another port"
        if same
        else "give one profile another frontend.port and deploy.first_port",
        related=(Label(span=other_span, text=f"{theirs} here"),),
    )
