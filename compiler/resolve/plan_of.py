"""Make every choice that a topology leaves open: topology and stack become a plan."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from compiler.addresses import http_url, reachable
from compiler.model.config import ModelConfig
from compiler.plan import FORMAT, CacheChoice, Plan, Source
from compiler.process import ProcessName
from compiler.resolve.allocation import Allocation, allocate
from compiler.resolve.blocks import block_of
from compiler.resolve.connectors import chunk_multiple
from compiler.resolve.discovery import registrations, services
from compiler.resolve.processes import ProcessBuilder
from compiler.resolve.proxy import PROXY
from compiler.stacks.stack import Platform, Stack
from compiler.topology import CacheMode, Origin, Topology


@dataclass(frozen=True, slots=True)
class Resolved:
    """A plan, and where in the profile each of its processes comes from."""

    plan: Plan
    origins: Mapping[ProcessName, Origin]


def resolve(
    topology: Topology, stack: Stack, source: Source, model: ModelConfig | None
) -> Resolved:
    """Lay a whole deployment out.

    Errors: none; the rules have refused whatever a stack or a model cannot do.
    """
    allocation = allocate(topology, stack)
    plan = _plan(topology, stack, allocation, source, model)
    return Resolved(plan, _origins(topology, stack, allocation))


def _plan(
    topology: Topology,
    stack: Stack,
    allocation: Allocation,
    source: Source,
    model: ModelConfig | None,
) -> Plan:
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
        url=http_url(reachable(frontend.host), frontend.port, "/v1", tls=frontend.tls is not None),
        user=topology.deploy.user,
        lmcache=CacheChoice(
            enabled=cache.enabled,
            mode=cache.mode,
            chunk_size=cache.chunk_size,
            chunk_multiple=_chunk_multiple(topology, platform, model),
            cpu_cache_gb=cache.cpu_cache_gb,
        ),
        services=services(topology, stack),
        registrations=registrations(topology, stack),
        source=source,
        processes=ProcessBuilder(topology, stack, allocation).processes(),
    )


def _chunk_multiple(topology: Topology, platform: Platform, model: ModelConfig | None) -> int:
    """Return what a chunk must be a multiple of: the blocks of all that caches, in tokens."""
    its = model if topology.lmcache.mode is CacheMode.MULTIPROCESS else None
    found = []
    for group in topology.caching or topology.workers:
        block = block_of(group, platform, its)
        found.append(chunk_multiple(group, platform)[0] if block is None else block.tokens)
    return math.lcm(*found)


def _origins(topology: Topology, stack: Stack, allocation: Allocation) -> dict[ProcessName, Origin]:
    origins = {slot.name: slot.port_origin for slot in allocation.workers}
    origins.update({slot.name: topology.lmcache.origin for slot in allocation.caches})
    has_proxy = allocation.proxy_port is not None
    inside = topology.deploy.origin if has_proxy else topology.frontend.origin
    origins[ProcessName(stack.frontend.name)] = inside
    origins[PROXY] = topology.frontend.origin
    if allocation.store:
        origins[allocation.store.name] = allocation.store.tier.origin
    return origins
