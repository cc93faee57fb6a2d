"""Tell from a plan where its KV goes: which workers have LMCache, NIXL, and which cache server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from compiler.plan import Kind, Plan, Process, ProcessName


def connectors(config: Mapping[str, Any]) -> Iterator[str]:
    """List the connectors of a KV transfer config, children of MultiConnector too."""
    name = config.get("kv_connector")
    if isinstance(name, str):
        yield name
    extra = config.get("kv_connector_extra_config")
    children = extra.get("connectors", ()) if isinstance(extra, Mapping) else ()
    for child in children:
        yield from connectors(child)


def has_lmcache(process: Process) -> bool:
    """Return whether a worker stores its KV in LMCache, as it was built."""
    return any(name.startswith("LMCache") for name in connectors(process.kv_transfer_config))


def has_nixl(process: Process) -> bool:
    """Return whether a worker moves KV by NIXL."""
    return any(name.startswith("Nixl") for name in connectors(process.kv_transfer_config))


def cached_workers(plan: Plan) -> tuple[Process, ...]:
    """Return the workers with LMCache."""
    return tuple(
        process
        for process in plan.processes
        if process.kind is Kind.WORKER and has_lmcache(process)
    )


def cache_server_of(plan: Plan, worker: Process) -> Process | None:
    """Return a worker's cache server; None where LMCache runs inside the worker."""
    servers = {item.name: item for item in plan.processes if item.kind is Kind.CACHE_SERVER}
    return next((servers[name] for name in worker.after if name in servers), None)


def domains(plan: Plan) -> tuple[tuple[Process, ...], ...]:
    """Group the workers with LMCache by the cache they share."""
    groups: dict[ProcessName, list[Process]] = {}
    for worker in cached_workers(plan):
        server = cache_server_of(plan, worker)
        groups.setdefault(server.name if server else worker.name, []).append(worker)
    return tuple(map(tuple, groups.values()))


def http_url(process: Process, path: str = "") -> str:
    """Return where a process answers HTTP, at the address of its readiness check."""
    ready = process.ready
    return ready.url.removesuffix(ready.path) + path
