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


class WorkerSettings:
    """The settings of a topology's workers, looked up once for all groups that are alike."""

    def __init__(self, topology: Topology, stack: Stack) -> None:
        self._topology, self._stack = topology, stack
        self._kinds: dict[int, str] = {}
        self._found: dict[tuple[str, bool], tuple[Setting, ...]] = {}

    def kind(self, group: WorkerGroup) -> str:
        """Return what groups have in common that are alike but for their places."""
        if id(group) not in self._kinds:
            facts = (group.role.value, group.tensor_parallel_size, group.env, group.engine_args)
            self._kinds[id(group)] = repr(facts)
        return self._kinds[id(group)]

    def of(self, group: WorkerGroup, *, lmcache: bool) -> tuple[Setting, ...]:
        """Return those that hold for a worker; lmcache: in the form with LMCache."""
        key = self.kind(group), lmcache
        if key not in self._found:
            found = settings(self._topology, self._stack, group, lmcache=lmcache)
            self._found[key] = tuple(found)
        return self._found[key]


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
