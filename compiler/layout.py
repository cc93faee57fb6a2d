"""Name the processes of a topology, hand out GPUs, and allot the ports nobody gave."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from compiler.plan import ProcessName
from compiler.topology import Arrangement, CacheMode, Origin, Role, Topology, WorkerGroup


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSeat:
    """One worker's name, place and ports; side_channel_port is None without NIXL."""

    name: ProcessName
    group: WorkerGroup
    gpus: tuple[str, ...]
    host: str
    port: int
    side_channel_port: int | None
    cache: ProcessName | None
    uses_lmcache: bool
    port_origin: Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheSeat:
    """One cache server's name and ports; gpus are those of the workers it serves."""

    name: ProcessName
    port: int
    http_port: int
    gpus: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Who runs where; router_metrics_port is None where one worker is its own frontend."""

    caches: tuple[CacheSeat, ...]
    workers: tuple[WorkerSeat, ...]
    router_metrics_port: int | None


def lay_out(topology: Topology) -> Layout:
    """Give every process its name, GPUs and ports, in one fixed order.

    Ports: the profile's own first; then from deploy.first_port upwards the workers' HTTP ports,
    their NIXL side channels, the cache servers' two ports each, the router's metrics.
    """
    ports = _free_ports(topology)
    seats = list(_seats(topology))
    has_router = topology.arrangement is Arrangement.DISAGG or len(seats) > 1
    has_nixl = topology.arrangement is Arrangement.DISAGG
    http = [
        topology.frontend.port if not has_router else given if given is not None else next(ports)
        for _, _, _, given in seats
    ]
    side = [next(ports) if has_nixl else None for _ in seats]
    workers = tuple(
        WorkerSeat(
            name=name,
            group=group,
            gpus=gpus,
            host="127.0.0.1" if has_router else topology.frontend.host,
            port=port,
            side_channel_port=side_port,
            cache=_cache_of(topology, group, name),
            uses_lmcache=topology.uses_lmcache(group),
            port_origin=group.origin if has_router else topology.frontend.origin,
        )
        for (name, group, gpus, _), port, side_port in zip(seats, http, side, strict=True)
    )
    served: dict[ProcessName, list[str]] = {}
    for seat in workers:
        if seat.cache is not None:
            served.setdefault(seat.cache, []).extend(seat.gpus)
    caches = tuple(
        CacheSeat(
            name=name, port=next(ports), http_port=next(ports), gpus=tuple(dict.fromkeys(gpus))
        )
        for name, gpus in served.items()
    )
    return Layout(
        caches=caches,
        workers=workers,
        router_metrics_port=next(ports) if has_router else None,
    )


def _seats(
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
    return ProcessName("lmcache" if topology.arrangement is Arrangement.AGG else f"lmcache-{name}")


def _free_ports(topology: Topology) -> Iterator[int]:
    taken = {topology.frontend.port}
    for group in topology.workers:
        if group.port is not None:
            taken.update(range(group.port, group.port + group.replicas))
    return (port for port in range(topology.deploy.first_port, 1 << 20) if port not in taken)
