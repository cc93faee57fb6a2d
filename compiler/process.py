"""One process of a plan: what is started, how it is asked, and what it takes.

A process that caches has `tiers`: the storage behind its host memory, in the order in which LMCache
asks it. Each is `{kind, place, folder, size_bytes, keep_bytes, persistent, shared, server}`:

    kind        the profile's word: disk, fs, redis, valkey, s3, gds, weka, nixl, …
    place       what a person calls it: a folder, a device, or a URL without secrets
    folder      the folder that must be there and writable; "" where there is none
    size_bytes  what bounds it; null where nothing that dync writes does
    keep_bytes  what may lie in `folder` when the process starts; null: nothing is removed
    persistent  whether what it holds is read again after the process has restarted
    shared      whether other processes read what this one wrote
    server      {host, port, username, secret, required}: a server that speaks Redis' protocol and
                is asked before the process starts; null where none is. `secret` is the variable of
                the process's `secrets` with its password, "" for none; required: whether the
                process must not start without it (a wrong password always stops it)

A cache server has them in mode multiprocess, a worker in mode in_process; under ENABLE_LMCACHE=0
none is used. A store that dync starts itself (`redis: {managed: …}`) is a process of kind `store`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NewType

from compiler.document import Json
from compiler.topology import Role

API_KEY = "VLLM_API_KEY"
"""The variable among a process's secrets that holds the key which clients must send."""
TLS_CERTIFICATE, TLS_KEY = "PROXY_TLS_CERTIFICATE", "PROXY_TLS_KEY"
"""The variables among a proxy's secrets that hold its certificate and that one's key, as PEM."""
ProcessName = NewType("ProcessName", str)


class Kind(str, Enum):
    """What a process is for."""

    CACHE_SERVER = "cache_server"
    WORKER = "worker"
    FRONTEND = "frontend"
    STORE = "store"
    PROXY = "proxy"


class WithoutLmcache(str, Enum):
    """What becomes of a process under ENABLE_LMCACHE=0 where it needs no Launch of its own."""

    SAME = "same"
    NOT_STARTED = "not_started"


class Protocol(str, Enum):
    """How a process is asked whether it is ready."""

    HTTP = "http"
    REDIS = "redis"


class KvSource(str, Enum):
    """Where a worker reads which connectors it has."""

    ENGINE_FILE = "engine_file"
    COMMAND = "command"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listen:
    """A TCP port that a process opens."""

    purpose: str
    host: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """Where a process answers 200 once it is ready, and how long that may take.

    body: JSON to post there; empty where a GET is answered. key_file: a file with the key that the
    request must carry; empty where none is asked for. protocol redis: PING is answered, with the
    password of key_file, and there is no path.
    """

    url: str
    host: str
    port: int
    path: str
    body: str = ""
    key_file: str = ""
    protocol: Protocol = Protocol.HTTP
    timeout_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TierServer:
    """A server of Redis' protocol that a tier is kept in; see the module's text."""

    host: str
    port: int
    username: str = ""
    secret: str = ""
    required: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """One storage tier behind a process's host memory; see the module's text."""

    kind: str
    place: str
    folder: str = ""
    size_bytes: int | None = None
    keep_bytes: int | None = None
    persistent: bool
    shared: bool
    server: TierServer | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What a process takes: host bytes in all, and the fraction of each of its GPUs."""

    host_bytes: int
    gpu_fraction: float


@dataclass(frozen=True, slots=True)
class Connector:
    """A KV connector by the engine's own name, and its kv_role."""

    name: str
    kv_role: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """How one form of a process starts; paths in argv and env are relative to the bundle.

    engine_args are the options written to the engine's own file, or what decides nginx's
    (`max_request_mb`, `drain_s`); lmcache_config the keys of the
    in-process cache's file; both are empty where a process has no such file. kv_transfer_config is
    written to the engine's file too, or says what the engine makes of its argv and env (kv_source).
    """

    argv: tuple[str, ...]
    env: Mapping[str, str]
    engine_args: Mapping[str, Json] = field(default_factory=dict)
    kv_transfer_config: Mapping[str, Json] = field(default_factory=dict)
    kv_source: KvSource = KvSource.ENGINE_FILE
    lmcache_config: Mapping[str, Json] = field(default_factory=dict)

    @property
    def connectors(self) -> tuple[Connector, ...]:
        """Return the connectors that move KV, in the order in which they are asked."""
        return tuple(connectors_of(self.kv_transfer_config))


def connectors_of(config: Mapping[str, Any]) -> Iterator[Connector]:
    """Return the connectors that move KV: those that one of several holds, or the one itself.

    Source: vLLM 0.32.0, vllm/distributed/kv_transfer/kv_connector/v1/multi_connector.py.
    """
    extra = config.get("kv_connector_extra_config")
    children = extra.get("connectors") if isinstance(extra, Mapping) else None
    if isinstance(children, (list, tuple)):
        for child in children:
            yield from connectors_of(child)
    elif config:
        yield Connector(str(config["kv_connector"]), str(config.get("kv_role")))


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One program of the deployment; the argv and env of its launch are the whole truth about it.

    secrets: environment names to files read at launch. switch_argv, switch_env: which argv index
    and which variables the launch-time switches replace. tiers: in the order in which they are
    asked. host memory in bytes, stop_s in seconds.
    """

    name: ProcessName
    kind: Kind
    role: Role | None = None
    gpus: tuple[str, ...] = ()
    launch: Launch
    without_lmcache: WithoutLmcache | Launch
    secrets: Mapping[str, str] = field(default_factory=dict)
    switch_argv: Mapping[str, int] = field(default_factory=dict)
    switch_env: tuple[str, ...] = ()
    listens: tuple[Listen, ...]
    after: tuple[ProcessName, ...] = ()
    ready: Ready
    metrics: str
    memory: Memory
    tiers: tuple[Tier, ...] = ()
    stop_s: int

    @property
    def argv(self) -> tuple[str, ...]:
        """Return what is started."""
        return self.launch.argv

    @property
    def env(self) -> Mapping[str, str]:
        """Return the environment that it is started with, secrets left out."""
        return self.launch.env

    @property
    def ranks(self) -> int:
        """Return how many parts a worker computes and caches in, one on each of its GPUs."""
        given = self.launch.engine_args.get("tensor_parallel_size", 1)
        return given if isinstance(given, int) else 1

    @property
    def has_lmcache(self) -> bool:
        """Return whether a worker stores its KV in LMCache, as it was built."""
        return any(item.name.startswith("LMCache") for item in self.launch.connectors)

    @property
    def has_nixl(self) -> bool:
        """Return whether a worker moves KV by NIXL."""
        return any(item.name.startswith("Nixl") for item in self.launch.connectors)


def host_bytes(processes: Iterable[Process]) -> int:
    """Return the host memory that processes claim together for KV."""
    return sum(process.memory.host_bytes for process in processes)
