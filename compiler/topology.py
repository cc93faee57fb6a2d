"""The typed form of a profile: what the user said, with gaps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from compiler.diagnostic import Span
from compiler.document import Document, Json, Path


class Role(str, Enum):
    """Which phases of a request a worker runs."""

    AGGREGATED = "aggregated"
    PREFILL = "prefill"
    DECODE = "decode"


class TopologyKind(str, Enum):
    """The profile's `topology`: one pool of workers, or separate pools."""

    AGG = "agg"
    DISAGG = "disagg"


class Accelerator(str, Enum):
    """What the workers compute on."""

    CUDA = "cuda"
    CPU = "cpu"


class CacheMode(str, Enum):
    """Where LMCache runs: in a server of its own, or inside each worker."""

    MULTIPROCESS = "multiprocess"
    IN_PROCESS = "in_process"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an object of the topology was written."""

    document: Document
    path: Path

    @property
    def span(self) -> Span:
        """Return the span of the object, or of its deepest written parent."""
        return self.document.span(self.path)

    def of(self, *steps: str | int) -> Span:
        """Return the span of a value below the object."""
        return self.document.span((*self.path, *steps))

    def wrote(self, *steps: str | int) -> bool:
        """Return whether a value below the object was written, rather than left to its default."""
        return self.document.has((*self.path, *steps))

    def key(self, *steps: str | int) -> Span:
        """Return the span of a key below the object."""
        return self.document.key_span((*self.path, *steps))


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What every worker serves."""

    id: str
    served_name: str | None
    max_len: int | None
    origin: Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """The files, both PEM, of the certificate that clients are shown and of its key."""

    certificate: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Frontend:
    """Where clients connect."""

    host: str
    port: int
    routing: str | None
    api_key_file: str | None
    allow_unauthenticated: bool
    tls: Tls | None
    max_request_mb: int
    secret_env: Mapping[str, str]
    origin: Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class Discovery:
    """How processes find each other, where the stack's frontend is not told; None: its default."""

    backend: str | None
    etcd_endpoints: tuple[str, ...]
    events: str | None
    nats_server: str
    origin: Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class TierChoice:
    """One storage tier: its kind and all its options, None where one was not given.

    The origin is the mapping of options.
    """

    kind: str
    options: Mapping[str, Json]
    origin: Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class LMCache:
    """The cache that outlives the engine's own; cpu_cache_gb is GiB, as LMCache counts.

    tiers: the storage behind its memory, in the order in which it is asked.
    """

    enabled: bool
    mode: CacheMode
    chunk_size: int
    cpu_cache_gb: float
    secret_env: Mapping[str, str]
    tiers: tuple[TierChoice, ...]
    origin: Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerGroup:
    """Equal workers; `gpus` has replicas x tensor_parallel_size entries, or none on CPU."""

    role: Role
    gpus: tuple[str, ...]
    port: int | None
    replicas: int
    tensor_parallel_size: int
    lmcache: bool | None
    engine_args: Mapping[str, Json]
    env: Mapping[str, str]
    secret_env: Mapping[str, str]
    origin: Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class Deploy:
    """Where and how the deployment lives on its host."""

    user: str
    prefix: str
    first_port: int
    ready_timeout_s: int | None
    drain_s: int
    origin: Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """A whole profile; secret_env, here and below: variables to the files with their values."""

    name: str
    stack: str
    kind: TopologyKind
    accelerator: Accelerator
    model: Model
    frontend: Frontend
    discovery: Discovery
    lmcache: LMCache
    workers: tuple[WorkerGroup, ...]
    secret_env: Mapping[str, str]
    deploy: Deploy
    origin: Origin

    def uses_lmcache(self, group: WorkerGroup) -> bool:
        """Return whether a group caches: as it says, else by role, and never when disabled."""
        asked = group.lmcache if group.lmcache is not None else group.role is not Role.DECODE
        return self.lmcache.enabled and asked

    @property
    def caching(self) -> list[WorkerGroup]:
        """Return the groups that use LMCache."""
        return [group for group in self.workers if self.uses_lmcache(group)]
