"""Workers have the roles of their topology.

An agg topology has aggregated workers only. A disagg topology has at least one prefill and one
decode worker, and no aggregated one: the router would send it half requests.

Accepted:
    name: pair
    stack: vllm-0.32
    topology: disagg
    model: {id: Qwen/Qwen3-0.6B}
    workers:
      - {role: prefill, gpus: [0]}
      - {role: decode, gpus: [1]}

Rejected:
    name: pair
    stack: vllm-0.32
    topology: disagg
    model: {id: Qwen/Qwen3-0.6B}
    workers:
      - {role: prefill, gpus: [0]}

Source: vllm-router 0.1.17 router_args.py, --prefill and --decode of --vllm-pd-disaggregation.
"""

from __future__ import annotations

from collections.abc import Iterator

from compiler.diagnostic import Diagnostic, Label, Rule, Severity
from compiler.topology import Role, Topology, TopologyKind

RULE = Rule(
    "roles",
    Severity.ERROR,
    "agg has aggregated workers only; disagg has prefill and decode workers, at least one of each",
)
_ROLES = {
    TopologyKind.AGG: (Role.AGGREGATED,),
    TopologyKind.DISAGG: (Role.PREFILL, Role.DECODE),
}


def check(topology: Topology) -> Iterator[Diagnostic]:
    """Report each worker of a foreign role and each role that nobody has."""
    wanted = _ROLES[topology.kind]
    kind = topology.kind.value
    related = (Label(span=topology.origin.of("topology"), text="set here"),)
    for group in topology.workers:
        if group.role not in wanted:
            yield RULE.at(
                group.origin.of("role"),
                f"role {group.role.value} has no place in topology {kind}",
                fix=f"write role: {' or role: '.join(role.value for role in wanted)}",
                related=related,
            )
    for role in wanted:
        if all(group.role is not role for group in topology.workers):
            yield RULE.at(
                topology.origin.key("workers"),
                f"topology {kind} has no {role.value} worker",
                fix=f"add an entry to workers: - role: {role.value}",
                related=related,
            )
