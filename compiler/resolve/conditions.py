"""Tell which facts of a worker hold: what a stack's cases and settings are conditioned on.

The facts: accelerator, topology, mode, role, routing, lmcache; a name in capitals is one
of the worker's variables, any other one of its engine_args.
"""

from __future__ import annotations

from collections.abc import Iterator

from compiler.document import Json
from compiler.stacks.stack import Setting, Stack
from compiler.stacks.when import Facts, When
from compiler.topology import Topology, WorkerGroup

DEFAULT_ROUTING = "round_robin"


def applies(when: When, topology: Topology, group: WorkerGroup, *, lmcache: bool) -> bool:
    """Return whether a worker meets a condition; lmcache: in the form with LMCache."""
    return when.matches(worker_facts(topology, group, lmcache=lmcache))


def settings(
    topology: Topology, stack: Stack, group: WorkerGroup, *, lmcache: bool
) -> Iterator[Setting]:
    """Return the stack's settings that hold for a worker, in the stack's order."""
    for setting in stack.settings:
        if applies(setting.when, topology, group, lmcache=lmcache):
            yield setting


def case_env(topology: Topology, stack: Stack, group: WorkerGroup) -> dict[str, str]:
    """Return the environment that a stack's known issues set for a worker with LMCache."""
    env: dict[str, str] = {}
    for case in stack.cases:
        if case.env and applies(case.when, topology, group, lmcache=True):
            env.update(case.env)
    return env


def worker_facts(topology: Topology, group: WorkerGroup, *, lmcache: bool) -> Facts:
    """Return what a condition may ask of a worker."""
    facts: dict[str, Json] = {
        "accelerator": topology.accelerator.value,
        "topology": topology.kind.value,
        "mode": topology.lmcache.mode.value,
        "role": group.role.value,
        "routing": topology.frontend.routing or DEFAULT_ROUTING,
        "lmcache": lmcache,
    }

    def fact(name: str) -> Json:
        if name in facts:
            return facts[name]
        return group.env.get(name) if name.isupper() else group.engine_args.get(name)

    return fact
