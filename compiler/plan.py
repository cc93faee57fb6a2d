"""What will run, with every choice made: the one value that every command and emitter reads.

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

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from enum import Enum
from typing import Any, NewType

from compiler.document import Json
from compiler.topology import Accelerator, CacheMode, Role, TopologyKind

FORMAT = 1
API_KEY = "VLLM_API_KEY"
"""The variable among a process's secrets that holds the key which clients must send."""
ProcessName = NewType("ProcessName", str)


class Kind(str, Enum):
    """What a process is for."""

    CACHE_SERVER = "cache_server"
    WORKER = "worker"
    FRONTEND = "frontend"
    STORE = "store"


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """How one form of a process starts; paths in argv and env are relative to the bundle.

    engine_args are the options written to the engine's own file, lmcache_config the keys of the
    in-process cache's file; both are empty where a process has no such file. kv_transfer_config is
    written to the engine's file too, or says what the engine makes of its argv and env (kv_source).
    """

    argv: tuple[str, ...]
    env: Mapping[str, str]
    engine_args: Mapping[str, Json] = field(default_factory=dict)
    kv_transfer_config: Mapping[str, Json] = field(default_factory=dict)
    kv_source: KvSource = KvSource.ENGINE_FILE
    lmcache_config: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One program of the deployment; its argv and env are the whole truth about it.

    secrets: environment names to files read at launch. switch_argv, switch_env: which argv index
    and which variables the launch-time switches replace. tiers: in the order in which they are
    asked. host memory in bytes, stop_s in seconds.
    """

    name: ProcessName
    kind: Kind
    role: Role | None = None
    gpus: tuple[str, ...] = ()
    argv: tuple[str, ...]
    env: Mapping[str, str]
    engine_args: Mapping[str, Json] = field(default_factory=dict)
    kv_transfer_config: Mapping[str, Json] = field(default_factory=dict)
    kv_source: KvSource = KvSource.ENGINE_FILE
    lmcache_config: Mapping[str, Json] = field(default_factory=dict)
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
    def ranks(self) -> int:
        """Return how many parts a worker computes and caches in, one on each of its GPUs."""
        given = self.engine_args.get("tensor_parallel_size", 1)
        return given if isinstance(given, int) else 1


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


@dataclass(frozen=True, slots=True, kw_only=True)
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

    @property
    def stack_program(self) -> str:
        """Return the stack's own program, which starts every process but a store."""
        return next(item.argv[0] for item in self.processes if item.kind is not Kind.STORE)

    @property
    def api_key_file(self) -> str:
        """Return the file of the key that clients must send; empty where none is asked for."""
        files = (process.secrets.get(API_KEY, "") for process in self.processes)
        return next(filter(None, files), "")

    def to_json(self) -> str:
        """Return the plan as JSON text: the same plan, the same bytes."""
        return json.dumps(_plain(self), indent=1, ensure_ascii=False) + "\n"

    @staticmethod
    def from_json(text: str) -> Plan:
        """Read a plan back.

        Errors: ValueError for text that is no plan of this format.
        """
        try:
            data = json.loads(text)
            if data["format"] != FORMAT:
                raise ValueError(f"plan format {data['format']} is not {FORMAT}")
            return _plan(data)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a plan: {error!r}") from error


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: _plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value


def _plan(data: dict[str, Any]) -> Plan:
    lmcache, source = data["lmcache"], data["source"]
    return Plan(
        **{
            **data,
            "topology": TopologyKind(data["topology"]),
            "accelerator": Accelerator(data["accelerator"]),
            "lmcache": CacheChoice(**{**lmcache, "mode": CacheMode(lmcache["mode"])}),
            "source": Source(
                files=tuple(SourceFile(**item) for item in source["files"]),
                overrides=source["overrides"],
            ),
            "services": tuple(Service(**item) for item in data.get("services", ())),
            "processes": tuple(_process(item) for item in data["processes"]),
        }
    )


def _process(data: dict[str, Any]) -> Process:
    off = data["without_lmcache"]
    return Process(
        **{
            **data,
            "kind": Kind(data["kind"]),
            "role": None if data["role"] is None else Role(data["role"]),
            "gpus": tuple(data["gpus"]),
            **_launch(data),
            "without_lmcache": WithoutLmcache(off)
            if isinstance(off, str)
            else Launch(**{**off, **_launch(off)}),
            "switch_env": tuple(data["switch_env"]),
            "listens": tuple(Listen(**item) for item in data["listens"]),
            "after": tuple(data["after"]),
            "ready": _ready(data["ready"]),
            "memory": Memory(**data["memory"]),
            "tiers": tuple(_tier(item) for item in data.get("tiers", ())),
        }
    )


def _ready(data: dict[str, Any]) -> Ready:
    return Ready(**{**data, "protocol": Protocol(data.get("protocol", Protocol.HTTP))})


def _tier(data: dict[str, Any]) -> Tier:
    server = data.get("server")
    return Tier(**{**data, "server": TierServer(**server) if server else None})


def _launch(data: dict[str, Any]) -> dict[str, Any]:
    source = data.get("kv_source", KvSource.ENGINE_FILE)
    return {"argv": tuple(data["argv"]), "kv_source": KvSource(source)}
