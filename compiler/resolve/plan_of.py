"""Make every choice that a topology leaves open: topology and stack become a plan."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from compiler.diagnostic import Diagnostic, Outcome, has_errors
from compiler.model.config import ModelConfig
from compiler.plan import FORMAT, CacheChoice, Plan, ProcessName, Source
from compiler.resolve.allocation import Allocation, allocate
from compiler.resolve.discovery import registrations, services
from compiler.resolve.processes import ProcessBuilder, reachable, url_of
from compiler.rules.chunk_alignment import chunk_multiple
from compiler.rules.tables import MODEL_RULES, PLAN_RULES, STACK_RULES
from compiler.stacks.stack import Stack
from compiler.topology import Origin, Topology


@dataclass(frozen=True, slots=True)
class Resolved:
    """A plan, and where in the profile each of its processes comes from."""

    plan: Plan
    origins: Mapping[ProcessName, Origin]


def resolve(
    topology: Topology, stack: Stack, model: ModelConfig | None, source: Source
) -> Outcome[Resolved]:
    """Check a topology against its stack and model, then lay the whole deployment out.

    model: None where its config.json is not known; the plan does not depend on it.
    Errors: the Diagnostics of STACK_RULES, MODEL_RULES and PLAN_RULES; never an exception.
    """
    found: list[Diagnostic] = [d for rule in STACK_RULES for d in rule.check(topology, stack)]
    found.extend(d for rule in MODEL_RULES for d in rule.check(topology, stack, model))
    if has_errors(found):
        return Outcome(None, tuple(found))
    allocation = allocate(topology, stack)
    resolved = Resolved(
        _plan(topology, stack, allocation, source), _origins(topology, stack, allocation)
    )
    listening = [(resolved.plan, resolved.origins)]
    found.extend(d for rule in PLAN_RULES for d in rule.check(listening))
    return Outcome(None if has_errors(found) else resolved, tuple(found))


def _plan(topology: Topology, stack: Stack, allocation: Allocation, source: Source) -> Plan:
    platform = stack.platforms[topology.accelerator.value]
    frontend, cache = topology.frontend, topology.lmcache
    return Plan(
        format=FORMAT,
        name=topology.name,
        stack=stack.name,
        topology=topology.kind,
        accelerator=topology.accelerator,
        model=topology.model.id,
        served_name=topology.model.served_name or topology.model.id,
        url=url_of(reachable(frontend.host), frontend.port, "/v1"),
        user=topology.deploy.user,
        lmcache=CacheChoice(
            enabled=cache.enabled,
            mode=cache.mode,
            chunk_size=cache.chunk_size,
            chunk_multiple=math.lcm(
                *(chunk_multiple(group, platform)[0] for group in topology.workers)
            ),
            cpu_cache_gb=cache.cpu_cache_gb,
        ),
        services=services(topology, stack),
        registrations=registrations(topology, stack),
        source=source,
        processes=ProcessBuilder(topology, stack, allocation).processes(),
    )


def _origins(topology: Topology, stack: Stack, allocation: Allocation) -> dict[ProcessName, Origin]:
    origins = {slot.name: slot.port_origin for slot in allocation.workers}
    origins.update({slot.name: topology.lmcache.origin for slot in allocation.caches})
    origins[ProcessName(stack.frontend.name)] = topology.frontend.origin
    if allocation.store:
        origins[allocation.store.name] = allocation.store.tier.origin
    return origins
