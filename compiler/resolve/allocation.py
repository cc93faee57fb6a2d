"""Name the processes of a topology, hand out GPUs, and allot the ports nobody gave."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from compiler.addresses import LOOPBACK, is_loopback
from compiler.process import ProcessName
from compiler.resolve.conditions import WorkerSettings
from compiler.resolve.connectors import has_transfer
from compiler.resolve.tier_values import int_of
from compiler.stacks.stack import PortUse, Stack
from compiler.topology import (
    CacheMode,
    Frontend,
    Origin,
    Role,
    TierChoice,
    Topology,
    TopologyKind,
    WorkerGroup,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """A port allotted for what a stack asks, and the word that stands for it."""

    word: str
    use: PortUse
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSlot:
    """One worker's name, place and ports; side_channel_port is None without NIXL."""

    name: ProcessName
    group: WorkerGroup
    gpus: tuple[str, ...]
    host: str
    port: int
    side_channel_port: int | None
    ports: tuple[Port, ...]
    cache: ProcessName | None
    uses_lmcache: bool
    port_origin: Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheSlot:
    """One cache server's name and ports; gpus are those of the workers it serves."""

    name: ProcessName
    port: int
    http_port: int
    gpus: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSlot:
    """A storage server that the deployment starts itself, and the tier it is for."""

    name: ProcessName
    port: int
    tier: TierChoice


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontendSlot:
    """Where the stack's frontend listens, and its ports beside that."""

    host: str
    port: int
    ports: tuple[Port, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """Who runs where; frontend is None where one worker is its own frontend.

    store is None where every storage server runs already; proxy_port, where the proxy is asked for
    its health, is None where there is no proxy.
    """

    caches: tuple[CacheSlot, ...]
    workers: tuple[WorkerSlot, ...]
    frontend: FrontendSlot | None
    store: StoreSlot | None
    proxy_port: int | None


def allocate(topology: Topology, stack: Stack) -> Allocation:
    """Return every process its name, GPUs and ports, in one fixed order.

    Ports: the profile's own first; then from deploy.first_port upwards the workers' HTTP ports,
    their NIXL side channels, what else the stack asks for them, the cache servers' two ports each,
    the frontend's own, the managed store's, then behind a proxy the frontend's HTTP port, and the
    one of the proxy's health.
    """
    ports = _free_ports(topology)
    settings = WorkerSettings(topology, stack)
    slots = list(_slots(topology))
    has_router = needs_frontend(topology, stack)
    is_inside = not is_entry_a_worker(topology, stack)
    has_nixl = has_transfer(topology, stack)
    http = [
        topology.frontend.port if not is_inside else given if given is not None else next(ports)
        for _, _, _, given in slots
    ]
    side = [next(ports) if has_nixl else None for _ in slots]
    workers = tuple(
        WorkerSlot(
            name=name,
            group=group,
            gpus=gpus,
            host=LOOPBACK if is_inside else topology.frontend.host,
            port=port,
            side_channel_port=side_port,
            ports=_asked_ports(topology, settings, group, ports),
            cache=_cache_of(topology, group, name),
            uses_lmcache=topology.uses_lmcache(group),
            port_origin=group.origin if is_inside else topology.frontend.origin,
        )
        for (name, group, gpus, _), port, side_port in zip(slots, http, side, strict=True)
    )
    caches = _caches(workers, ports)
    own = tuple(_allot(stack.starts["frontend"].ports, ports)) if has_router else ()
    store = _store(topology, ports)
    has_proxy = needs_proxy(topology.frontend)
    frontend = topology.frontend
    return Allocation(
        caches=caches,
        workers=workers,
        frontend=FrontendSlot(
            host=LOOPBACK if has_proxy else frontend.host,
            port=next(ports) if has_proxy else frontend.port,
            ports=own,
        )
        if has_router
        else None,
        store=store,
        proxy_port=next(ports) if has_proxy else None,
    )


def _store(topology: Topology, ports: Iterator[int]) -> StoreSlot | None:
    """Return the first managed store; a rule refuses a second one."""
    if not topology.caching:
        return None
    for tier in topology.lmcache.tiers:
        if tier.options.get("managed"):
            given = tier.options.get("port")
            port = int(given) if isinstance(given, (int, float)) else next(ports)
            return StoreSlot(name=ProcessName(tier.kind), port=port, tier=tier)
    return None


def _caches(workers: tuple[WorkerSlot, ...], ports: Iterator[int]) -> tuple[CacheSlot, ...]:
    served: dict[ProcessName, list[str]] = {}
    for slot in workers:
        if slot.cache is not None:
            served.setdefault(slot.cache, []).extend(slot.gpus)
    return tuple(
        CacheSlot(
            name=name, port=next(ports), http_port=next(ports), gpus=tuple(dict.fromkeys(gpus))
        )
        for name, gpus in served.items()
    )


def needs_frontend(topology: Topology, stack: Stack) -> bool:
    """Return whether something stands between the clients and the workers."""
    engines = sum(group.replicas for group in topology.workers)
    several = topology.kind is TopologyKind.DISAGG or engines > 1
    return several or stack.frontend.for_one_worker


def needs_proxy(frontend: Frontend) -> bool:
    """Return whether anything is asked that no engine's own server gives."""
    return not is_loopback(frontend.host) or bool(frontend.api_key_file or frontend.tls)


def is_entry_a_worker(topology: Topology, stack: Stack) -> bool:
    """Return whether clients reach the only worker itself."""
    return not needs_frontend(topology, stack) and not needs_proxy(topology.frontend)


def _asked_ports(
    topology: Topology, settings: WorkerSettings, group: WorkerGroup, ports: Iterator[int]
) -> tuple[Port, ...]:
    uses: dict[str, PortUse] = {}
    for lmcache in dict.fromkeys((topology.uses_lmcache(group), False)):
        for setting in settings.of(group, lmcache=lmcache):
            uses.update(setting.ports)
    return tuple(_allot(uses, ports))


def _allot(uses: Mapping[str, PortUse], ports: Iterator[int]) -> Iterator[Port]:
    for word, use in uses.items():
        yield Port(word=word, use=use, port=next(ports))


def _slots(
    topology: Topology,
) -> Iterator[tuple[ProcessName, WorkerGroup, tuple[str, ...], int | None]]:
    counts = dict.fromkeys(Role, 0)
    for group in topology.workers:
        width = group.tensor_parallel_size
        for replica in range(group.replicas):
            name = ProcessName(f"{group.role.value}-{counts[group.role]}")
            counts[group.role] += 1
            gpus = group.gpus[replica * width : (replica + 1) * width]
            given = None if group.port is None else group.port + replica
            yield name, group, gpus, given


def _cache_of(topology: Topology, group: WorkerGroup, name: ProcessName) -> ProcessName | None:
    """One cache server for all of agg; one for each worker beside NIXL, which must not share.

    Source: LMCache 0.5.6 docs, mp/disaggregated_prefill.
    """
    if not topology.uses_lmcache(group) or topology.lmcache.mode is not CacheMode.MULTIPROCESS:
        return None
    return ProcessName("lmcache" if topology.kind is TopologyKind.AGG else f"lmcache-{name}")


def _free_ports(topology: Topology) -> Iterator[int]:
    taken = {topology.frontend.port}
    taken.update(int_of(tier.options.get("port")) for tier in topology.lmcache.tiers)
    for group in topology.workers:
        if group.port is not None:
            taken.update(range(group.port, group.port + group.replicas))
    return (port for port in range(topology.deploy.first_port, 1 << 20) if port not in taken)
