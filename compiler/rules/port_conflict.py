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

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from compiler.diagnostic import Diagnostic, Label, Rule, Severity
from compiler.plan import Plan
from compiler.resolve.plan_of import Resolved
from compiler.topology import Origin

RULE = Rule(
    "port-conflict",
    Severity.ERROR,
    "two servers on one port may both start (SO_REUSEPORT) and share the requests between them",
)


@dataclass(frozen=True, slots=True)
class _Owner:
    """Who listens on a port, and where its profile says so."""

    plan: Plan
    process: str
    purpose: str
    port: int
    origin: Origin

    @property
    def name(self) -> str:
        """Return the process's name among several deployments."""
        return f"{self.plan.name}/{self.process}"

    @property
    def is_written(self) -> bool:
        """Whether the profile gives a port there, rather than leaving it to its default."""
        return self.origin.wrote("port")


def check(resolved: Sequence[Resolved]) -> Iterator[Diagnostic]:
    """Report each port that is taken twice, within a plan or between plans of one host."""
    owners: dict[int, _Owner] = {}
    for item in resolved:
        for process in item.plan.processes:
            for listen in process.listens:
                origin = item.origins[process.name]
                owner = _Owner(item.plan, process.name, listen.purpose, listen.port, origin)
                if not 0 < listen.port < 65536:
                    yield _beyond(owner)
                elif listen.port in owners:
                    yield _conflict(owners[listen.port], owner)
                else:
                    owners[listen.port] = owner


def _beyond(owner: _Owner) -> Diagnostic:
    return RULE.at(
        owner.origin.of("port"),
        f"{owner.process} would listen on port {owner.port}, beyond 65535",
        fix="write a lower port or a lower deploy.first_port",
        why="a TCP port is a number from 1 to 65535",
    )


def _conflict(first: _Owner, second: _Owner) -> Diagnostic:
    same = first.plan is second.plan
    ours, theirs = (owner.process if same else owner.name for owner in (second, first))
    # Point at a port that was written; a default has no line of its own.
    at, other = (second, first) if second.is_written or not first.is_written else (first, second)
    name = theirs if other is first else ours
    return RULE.at(
        at.origin.of("port"),
        f"port {second.port} is taken twice: {theirs} ({first.purpose}) and "
        f"{ours} ({second.purpose})",
        fix="give one of them another port"
        if same
        else "give one profile another frontend.port and deploy.first_port",
        related=(Label(span=other.origin.of("port"), text=f"{name} here"),)
        if other.is_written or not same
        else (),
    )
