"""Say which variables a profile's processes read from files, and which of the files is theirs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from compiler.process import Launch, Process
from compiler.topology import CacheMode, Origin, Topology, WorkerGroup

KEY = "secret_env"


@dataclass(frozen=True, slots=True)
class SecretFiles:
    """One mapping `secret_env` of a profile, and the object that it stands in."""

    files: Mapping[str, str]
    origin: Origin


Places = tuple[SecretFiles, ...]
"""Those that reach one process; a later one wins."""


def of_workers(topology: Topology, group: WorkerGroup, *, serves_clients: bool) -> Places:
    """Return what reaches a group's workers; serves_clients: there is no frontend before them."""
    caches = topology.lmcache.mode is CacheMode.IN_PROCESS and topology.uses_lmcache(group)
    return _written(
        _all(topology),
        *((_caches(topology),) if caches else ()),
        *((_frontend(topology),) if serves_clients else ()),
        SecretFiles(group.secret_env, group.origin),
    )


def of_caches(topology: Topology) -> Places:
    """Return what reaches the cache servers."""
    return _written(_all(topology), _caches(topology))


def of_frontend(topology: Topology) -> Places:
    """Return what reaches the frontend, where it is a process of its own."""
    return _written(_all(topology), _frontend(topology))


def every_place(topology: Topology) -> Places:
    """Return all of a profile, in its order."""
    groups = (SecretFiles(group.secret_env, group.origin) for group in topology.workers)
    return _written(_all(topology), _frontend(topology), _caches(topology), *groups)


def with_secrets(process: Process, places: Places) -> Process:
    """Return a process that reads these files too; one replaces the variable that a stack sets."""
    files = {name: file for place in places for name, file in place.files.items()}
    if not files:
        return process
    off = process.without_lmcache
    return replace(
        process,
        secrets={**process.secrets, **dict(sorted(files.items()))},
        launch=_without(process.launch, files),
        without_lmcache=_without(off, files) if isinstance(off, Launch) else off,
    )


def _without(launch: Launch, files: Mapping[str, str]) -> Launch:
    return replace(launch, env={k: v for k, v in launch.env.items() if k not in files})


def _written(*places: SecretFiles) -> Places:
    return tuple(place for place in places if place.files)


def _all(topology: Topology) -> SecretFiles:
    return SecretFiles(topology.secret_env, topology.origin)


def _caches(topology: Topology) -> SecretFiles:
    return SecretFiles(topology.lmcache.secret_env, topology.lmcache.origin)


def _frontend(topology: Topology) -> SecretFiles:
    return SecretFiles(topology.frontend.secret_env, topology.frontend.origin)
