"""Say what a picture of a plan shows: its processes, what lies around them, and where KV flows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise

from compiler.addresses import host_port, is_loopback
from compiler.byte_units import GIB
from compiler.plan import Plan
from compiler.process import API_KEY, Kind, Listen, Process, Tier
from compiler.topology import Accelerator, CacheMode, Role

CLIENTS, HOST, SERVICES = "clients", "host", "services"
_PURPOSES = {
    "http": "HTTP",
    "https": "HTTPS",
    "nixl_side_channel": "NIXL",
    "lmcache": "LMCache",
}
_SERVES_FOR = {"etcd": "discovery", "nats": "messages"}
_IN_PROCESS = "LMCacheConnectorV1"


class Part(str, Enum):
    """What a box stands for."""

    CLIENTS, HOST, SERVICES = "clients", "host", "services"
    FRONTEND = "frontend"
    AGGREGATED = "aggregated"
    PREFILL = "prefill"
    DECODE = "decode"
    CACHE = "cache"
    TIER = "tier"
    SERVICE = "service"


class Carries(str, Enum):
    """What goes along an arrow."""

    REQUESTS = "requests"
    TRANSFER = "transfer"
    CACHE = "cache"
    NOTICES = "notices"


@dataclass(frozen=True, slots=True, kw_only=True)
class DiagramNode:
    """One box: a heading, the facts below it, its ports, and the GPUs it computes on.

    elsewhere: another host has it, as far as its address tells.
    """

    key: str
    part: Part
    heading: str
    facts: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    gpus: tuple[str, ...] = ()
    elsewhere: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The workers of one role: what is sent to any of them is drawn to the group."""

    key: str
    heading: str
    workers: tuple[DiagramNode, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """One arrow between boxes or groups, or HOST and SERVICES, by their keys."""

    source: str
    target: str
    carries: Carries
    label: str
    both_ways: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagram:
    """A whole picture; groups, caches and services stand in the plan's order, prefill first.

    front: what requests pass on their way to the workers, one after the other.
    """

    heading: str
    facts: tuple[str, ...]
    clients: DiagramNode
    front: tuple[DiagramNode, ...]
    groups: tuple[Group, ...]
    caches: tuple[DiagramNode, ...]
    tiers: tuple[DiagramNode, ...]
    services: tuple[DiagramNode, ...]
    flows: tuple[Flow, ...]


def diagram(plan: Plan) -> Diagram:
    """Return what the picture of a plan shows."""
    front = tuple(item for item in (plan.proxy, plan.frontend) if item)
    services = tuple(
        DiagramNode(
            key=f"service-{number}",
            part=Part.SERVICE,
            heading=service.purpose,
            facts=(service.url,),
        )
        for number, service in enumerate(plan.services)
    )
    return Diagram(
        heading=plan.name,
        facts=_summary(plan),
        clients=DiagramNode(key=CLIENTS, part=Part.CLIENTS, heading="clients", facts=(plan.url,)),
        front=tuple(
            DiagramNode(
                key=item.name,
                part=Part.FRONTEND,
                heading=item.name,
                facts=_guards(item),
                ports=_ports(item),
            )
            for item in front
        ),
        groups=tuple(_groups(plan)),
        caches=tuple(_cache(p, plan) for p in plan.cache_servers),
        tiers=tuple(_tiers(plan)),
        services=services,
        flows=tuple(_flows(plan, front)),
    )


def _guards(process: Process) -> tuple[str, ...]:
    """Say what a proxy asks of clients; nothing of what is no proxy."""
    if process.kind is not Kind.PROXY:
        return ()
    return ("asks for the API key" if API_KEY in process.secrets else "asks for no key",)


def _summary(plan: Plan) -> tuple[str, ...]:
    cache = plan.lmcache
    mode = "in process" if cache.mode is CacheMode.IN_PROCESS else "multiprocess"
    said = f"{mode}, chunks of {cache.chunk_size} tokens" if cache.enabled else "off"
    model = plan.model if plan.served_name == plan.model else f"{plan.model} as {plan.served_name}"
    return (model, f"{plan.topology.value} on stack {plan.stack}; LMCache {said}")


def _groups(plan: Plan) -> Iterator[Group]:
    for role in (Role.AGGREGATED, Role.PREFILL, Role.DECODE):
        workers = tuple(_worker(p, plan) for p in plan.processes if p.role is role)
        if workers:
            heading = f"{role.value} worker{'s' if len(workers) > 1 else ''}"
            yield Group(key=f"group-{role.value}", heading=heading, workers=workers)


def _worker(process: Process, plan: Plan) -> DiagramNode:
    assert process.role is not None
    found = process.launch.connectors
    facts = [f"{item.name} ({item.kv_role})" for item in found]
    if any(item.name == _IN_PROCESS for item in found):
        facts.append(f"cache in host memory: {plan.lmcache.cpu_cache_gb:g} GiB")
    return DiagramNode(
        key=process.name,
        part=Part(process.role.value),
        heading=process.name,
        facts=tuple(facts),
        ports=_ports(process),
        gpus=process.gpus or (("CPU",) if plan.accelerator is Accelerator.CPU else ()),
    )


def _cache(process: Process, plan: Plan) -> DiagramNode:
    return DiagramNode(
        key=process.name,
        part=Part.CACHE,
        heading=process.name,
        facts=(f"host memory: {plan.lmcache.cpu_cache_gb:g} GiB",),
        ports=_ports(process),
    )


def _tiers(plan: Plan) -> Iterator[DiagramNode]:
    """Return each store once, however many processes keep chunks in it."""
    stores = {_answers_at(p): p for p in plan.stores}
    tiers = {_tier_key(tier): tier for process in plan.processes for tier in process.tiers}
    for key, tier in tiers.items():
        store = _store_of(tier, stores)
        yield DiagramNode(
            key=key,
            part=Part.TIER,
            heading=store.name if store else tier.kind,
            facts=tuple(_tier_facts(tier)),
            ports=_ports(store) if store else (),
            elsewhere=_is_elsewhere(tier),
        )


def _tier_facts(tier: Tier) -> Iterator[str]:
    yield tier.place
    if tier.size_bytes is not None:
        yield f"at most {tier.size_bytes / GIB:.4g} GiB"
    yield "kept over restarts" if tier.persistent else "forgotten at a restart"


def _is_elsewhere(tier: Tier) -> bool:
    if tier.server:
        return not is_loopback(tier.server.host)
    return "://" in tier.place and not tier.folder


def _tier_key(tier: Tier) -> str:
    return f"tier {tier.kind} {tier.place}"


def _answers_at(store: Process) -> tuple[str, int]:
    return (store.ready.host, store.ready.port)


def _store_of(tier: Tier, stores: Mapping[tuple[str, int], Process]) -> Process | None:
    return stores.get((tier.server.host, tier.server.port)) if tier.server else None


def _ports(process: Process) -> tuple[str, ...]:
    return tuple(_port(listen) for listen in process.listens)


def _port(listen: Listen) -> str:
    """Name a port; its address too where another host may reach it."""
    purpose = _purpose(listen)
    if is_loopback(listen.host):
        return f"{purpose} {listen.port}"
    return f"{purpose} {host_port(listen.host, listen.port)}"


def _purpose(listen: Listen) -> str:
    return _PURPOSES.get(listen.purpose, listen.purpose.replace("_", " "))


def _flows(plan: Plan, front: tuple[Process, ...]) -> Iterator[Flow]:
    roles = [role for role in Role if any(p.role is role for p in plan.processes)]
    groups = {role: f"group-{role.value}" for role in roles}
    entry = front[0].name if front else next(iter(groups.values()))
    label = _purpose(plan.entry.listens[0])
    yield Flow(source=CLIENTS, target=entry, carries=Carries.REQUESTS, label=label)
    for earlier, later in pairwise(front):
        yield Flow(
            source=earlier.name, target=later.name, carries=Carries.REQUESTS, label="requests"
        )
    for group in groups.values() if front else ():
        yield Flow(source=front[-1].name, target=group, carries=Carries.REQUESTS, label="requests")
    if Role.PREFILL in groups and Role.DECODE in groups:
        yield Flow(
            source=groups[Role.PREFILL],
            target=groups[Role.DECODE],
            carries=Carries.TRANSFER,
            label="KV by NIXL",
        )
    for worker in plan.workers:
        cache = plan.cache_server_of(worker)
        if cache is not None:
            yield Flow(
                source=worker.name,
                target=cache.name,
                carries=Carries.CACHE,
                label="KV chunks",
                both_ways=True,
            )
    for process in plan.processes:
        for key in dict.fromkeys(map(_tier_key, process.tiers)):
            yield Flow(
                source=process.name, target=key, carries=Carries.CACHE, label="L2", both_ways=True
            )
    if plan.services:
        uses = dict.fromkeys(_SERVES_FOR.get(item.purpose, item.purpose) for item in plan.services)
        yield Flow(
            source=HOST,
            target=SERVICES,
            carries=Carries.NOTICES,
            label=" and ".join(uses),
            both_ways=True,
        )
