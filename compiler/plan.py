"""What will run, with every choice made: the one value that every command and emitter reads."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from enum import Enum
from functools import cache, cached_property
from json.encoder import encode_basestring
from typing import Any

from compiler.process import (
    API_KEY,
    TLS_CERTIFICATE,
    Kind,
    Process,
    ProcessName,
    host_bytes,
)
from compiler.topology import Accelerator, CacheMode, TopologyKind

FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Something that must run already, such as etcd: its kind and where it answers."""

    purpose: str
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheChoice:
    """What the launch-time switches are checked against; chunk_multiple is in tokens."""

    enabled: bool
    mode: CacheMode
    chunk_size: int
    chunk_multiple: int
    cpu_cache_gb: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """One file the plan was compiled from."""

    path: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """All that the plan was compiled from."""

    files: tuple[SourceFile, ...]
    overrides: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A whole deployment; processes stand in a start order, dependencies first.

    registrations: the folder of the files by which processes find each other, relative to the
    bundle; empty where there are none, or where nobody deletes them.
    """

    format: int
    name: str
    stack: str
    topology: TopologyKind
    accelerator: Accelerator
    model: str
    served_name: str
    url: str
    user: str
    lmcache: CacheChoice
    services: tuple[Service, ...] = ()
    registrations: str = ""
    source: Source
    processes: tuple[Process, ...]

    @cached_property
    def workers(self) -> tuple[Process, ...]:
        """Return the engines, in their start order."""
        return self._of(Kind.WORKER)

    @cached_property
    def cache_servers(self) -> tuple[Process, ...]:
        """Return LMCache's servers; none where LMCache runs inside the workers."""
        return self._of(Kind.CACHE_SERVER)

    @cached_property
    def stores(self) -> tuple[Process, ...]:
        """Return the storage servers that the deployment starts itself."""
        return self._of(Kind.STORE)

    @cached_property
    def frontend(self) -> Process | None:
        """Return what stands before the workers; None where one worker serves clients itself."""
        return next(iter(self._of(Kind.FRONTEND)), None)

    @cached_property
    def proxy(self) -> Process | None:
        """Return what guards the way in; None where nobody asks for a key, TLS or the network."""
        return next(iter(self._of(Kind.PROXY)), None)

    @property
    def api(self) -> Process:
        """Return what answers the API itself: the frontend, or the only worker."""
        return self.frontend or self.workers[-1]

    @property
    def entry(self) -> Process:
        """Return what clients reach: the proxy, or what answers itself."""
        return self.proxy or self.api

    @property
    def cached_workers(self) -> tuple[Process, ...]:
        """Return the workers with LMCache."""
        return tuple(worker for worker in self.workers if worker.has_lmcache)

    def cache_server_of(self, worker: Process) -> Process | None:
        """Return a worker's cache server; None where LMCache runs inside the worker, or nowhere."""
        earlier = (self.by_name[name] for name in worker.after)
        return next((item for item in earlier if item.kind is Kind.CACHE_SERVER), None)

    def served_by(self, name: ProcessName) -> tuple[Process, ...]:
        """Return the workers that a process serves as their cache server; none of another kind."""
        return self._served.get(name, ())

    @cached_property
    def caches(self) -> dict[ProcessName, tuple[Process, ...]]:
        """Return the workers that share each cache, by the process that keeps it."""
        found: dict[ProcessName, list[Process]] = {}
        for worker in self.cached_workers:
            owner = self.cache_server_of(worker) or worker
            found.setdefault(owner.name, []).append(worker)
        return {name: tuple(sharing) for name, sharing in found.items()}

    @property
    def gpu_claims(self) -> dict[str, dict[ProcessName, float]]:
        """Return, for each GPU, the fraction of its memory that each worker claims."""
        claims: dict[str, dict[ProcessName, float]] = {}
        for worker in self.workers:
            for gpu in worker.gpus:
                claims.setdefault(gpu, {})[worker.name] = worker.memory.gpu_fraction
        return claims

    @property
    def host_bytes(self) -> int:
        """Return the host memory that all processes claim together for KV."""
        return host_bytes(self.processes)

    @property
    def shared_bytes(self) -> int:
        """Return the part of it that cache servers keep in /dev/shm where that is large enough.

        Source: lmcache 0.5.6 v1/multiprocess/server.py, "Insufficient /dev/shm capacity".
        """
        return host_bytes(self.cache_servers)

    @property
    def stack_program(self) -> str:
        """Return the stack's own program, which starts all but what a distribution has."""
        return self.api.argv[0]

    @property
    def api_key_file(self) -> str:
        """Return the file of the key that clients must send; empty where none is asked for."""
        files = (process.secrets.get(API_KEY, "") for process in self.processes)
        return next(filter(None, files), "")

    @property
    def api_asks_key(self) -> bool:
        """Return whether a key is asked for behind the proxy too."""
        return any(API_KEY in worker.secrets for worker in self.workers)

    @property
    def certificate_file(self) -> str:
        """Return the file of the certificate that clients are shown; empty without TLS."""
        return self.proxy.secrets.get(TLS_CERTIFICATE, "") if self.proxy else ""

    @cached_property
    def by_name(self) -> dict[ProcessName, Process]:
        """Return its processes by their names."""
        return {process.name: process for process in self.processes}

    @cached_property
    def _served(self) -> dict[ProcessName, tuple[Process, ...]]:
        found: dict[ProcessName, list[Process]] = {}
        for worker in self.workers:
            server = self.cache_server_of(worker)
            if server is not None:
                found.setdefault(server.name, []).append(worker)
        return {name: tuple(served) for name, served in found.items()}

    def _of(self, kind: Kind) -> tuple[Process, ...]:
        return tuple(process for process in self.processes if process.kind is kind)

    def to_json(self) -> str:
        """Return the plan as JSON text: the same plan, the same bytes."""
        return _json(self) + "\n"


_SCALARS = frozenset({str, int, float, bool, type(None)})


def _json(value: Any, line: str = "\n") -> str:
    """Write a value as `json.dumps(indent=1)` does, which is several times slower for a plan.

    line: what begins a line at the depth of the value.
    """
    if isinstance(value, Enum):
        value = value.value
    if type(value) in _SCALARS:
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, (tuple, list)):
        if _SCALARS.issuperset(map(type, value)):
            return _scalars(value, line)
        return _enclosed("[]", line, (_json(item, f"{line} ") for item in value))
    fields_of = value if isinstance(value, Mapping) else dict(_pairs(value))
    if _SCALARS.issuperset(map(type, fields_of.values())):
        return _scalars(fields_of, line)
    texts = (
        f"{encode_basestring(key)}: {_json(item, f'{line} ')}" for key, item in fields_of.items()
    )
    return _enclosed("{}", line, texts)


def _scalars(value: Any, line: str) -> str:
    """Write what holds scalars alone: json's C code takes one text that separates them."""
    text = _encoder(f",{line} ")(value)
    return f"{text[0]}{line} {text[1:-1]}{line}{text[-1]}" if value else text


@cache
def _encoder(separator: str) -> Callable[[Any], str]:
    return json.JSONEncoder(ensure_ascii=False, separators=(separator, ": ")).encode


def _enclosed(brackets: str, line: str, texts: Iterable[str]) -> str:
    text = f",{line} ".join(texts)
    return f"{brackets[0]}{line} {text}{line}{brackets[1]}" if text else brackets


def _pairs(value: Any) -> Iterator[tuple[str, Any]]:
    """Return the fields of a part of a plan, a process's with those of its launch among them."""
    for name in _names(type(value)):  # type: ignore[arg-type]
        item = getattr(value, name)
        if name == "launch" and isinstance(value, Process):
            yield from _pairs(item)
        else:
            yield name, item.value if isinstance(item, Enum) else item


@cache
def _names(kind: type) -> tuple[str, ...]:
    return tuple(item.name for item in fields(kind))
