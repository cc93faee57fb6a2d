"""A stack's typed form, read from its YAML file and its catalogues.

schemas/stack.schema.json says what each field means, and in which unit.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from compiler.document import Json
from compiler.load.yaml_tree import parse_data
from compiler.stacks.relations import Relation
from compiler.stacks.tier_specs import TierKind
from compiler.stacks.when import When, parse_when


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option of an engine's command line, from a catalogue.

    many: takes several values; repeat: given once per value; json: "array" for JSON text of a list.
    replaced_by: what to write instead of a deprecated one. bounds: at_least, more_than, at_most,
    less_than of a number.
    """

    flag: str
    types: tuple[str, ...]
    many: bool = False
    nullable: bool = False
    negatable: bool = False
    repeat: bool = False
    json: str = ""
    choices: tuple[Json, ...] = ()
    deprecated: str = ""
    replaced_by: str = ""
    bounds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSpec:
    """How a kind of process starts, with {placeholders}; what is watched of it, and for how long.

    ports, metrics_port: by the words that stand for them in braces.
    """

    argv: tuple[Any, ...]
    env: Mapping[str, str]
    ports: Mapping[str, PortUse]
    ready_path: str
    ready_body: Json = None
    ready_timeout_s: int
    metrics_path: str
    metrics_port: str
    stop_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PortUse:
    """What a process listens for at a port allotted to it, and on which address."""

    purpose: str
    host: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectorCommand:
    """A worker's option that names its connectors, and the words it has for them."""

    flag: str
    words: Mapping[str, str]
    none: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Connectors:
    """Which KV connectors a worker has: by LMCache mode, by role for the transfer, and for both.

    command: None where the engine's file holds kv_transfer_config. refused_cache_mode: what prefix
    caching makes of Mamba's states on this stack, where LMCache refuses it. steps_of_one_block:
    whether LMCache refuses steps of more than one block of a model with states.
    """

    cache: Mapping[str, Mapping[str, Json]]
    transfer: Mapping[str, Mapping[str, Json]]
    several: Mapping[str, Json]
    cache_first: bool = False
    without_hybrid_manager: tuple[str, ...]
    without_context_parallel: tuple[str, ...] = ()
    refused_cache_mode: str = ""
    steps_of_one_block: bool = False
    command: ConnectorCommand | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairing:
    """What this stack's NIXL connector checks against the other side, and what it can copy."""

    hashed: tuple[str, ...]
    context_parallel: bool
    wider_prefill: bool
    cached_states: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadinessProbe:
    """What a worker is asked for readiness in place of its ProcessSpec: JSON, answered by 200."""

    path: str
    body: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a worker gets where `when` applies, as in a KnownIssue; ports as in a ProcessSpec."""

    when: When
    ports: Mapping[str, PortUse]
    argv: tuple[str, ...]
    env: Mapping[str, str]
    engine_args: Mapping[str, Json]
    ready: ReadinessProbe | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontendSpec:
    """The process that clients reach: its name, and its argv by topology.

    passes_key: the topologies in which workers get the key that a client sent.
    """

    name: str
    for_one_worker: bool
    passes_key: tuple[str, ...] = ()
    argv: Mapping[str, tuple[Any, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A combination that was run: where, when (YYYY-MM-DD), and what did it."""

    topology: str
    mode: str
    hardware: str
    at: str
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """What differs between accelerators: packages, the engine's defaults, how things start.

    requirements: what an environment is checked against; install: what pip is asked for, step by
    step, or nothing where the requirements do; sdists: packages without a wheel, and the reason.
    """

    runs: tuple[Run, ...] = ()
    read: str = ""
    requirements: tuple[str, ...]
    install: tuple[tuple[str, ...], ...] = ()
    sdists: Mapping[str, str] = field(default_factory=dict)
    without: tuple[str, ...]
    imports: tuple[str, ...]
    extensions: tuple[str, ...] = ()
    block_size: int
    latent_block: int = 0
    one_kv_group: bool = False
    gpu_memory_utilization: float
    env: Mapping[str, str]
    transfer_env: Mapping[str, str] = field(default_factory=dict)
    worker_argv: tuple[str, ...]
    cache_server_argv: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownIssue:
    """A combination that this stack refuses, warns of, or needs a setting for.

    at: the steps of the profile's key that it is reported at.
    """

    id: str
    when: When
    at: tuple[str, ...]
    severity: str
    message: str
    why: str
    fix: str
    env: Mapping[str, str]
    source: str
    proof: str


@dataclass(frozen=True, kw_only=True)
class Stack:
    """One released set of engine versions.

    starts: by kind of process. discovery: by role (backend, events) the environment of each way,
    the default first. tiers: the name of a data file; empty where that release was not looked at.
    catalogue_text: by the catalogue's name, as JSON. lock_text: by accelerator and machine; empty
    where there is none (compiler/stacks/lock.py reads it).
    """

    name: str
    summary: str
    versions: Mapping[str, str]
    python: tuple[str, ...]
    architectures: tuple[str, ...]
    platforms: Mapping[str, Platform]
    starts: Mapping[str, ProcessSpec]
    frontend: FrontendSpec
    discovery: Mapping[str, Mapping[str, Mapping[str, str]]]
    settings: tuple[Setting, ...]
    engine_args: Mapping[str, Json]
    owned_engine_args: Mapping[str, str]
    pairing: Pairing
    kv_cache_layouts: tuple[str, ...]
    env: Mapping[str, str]
    owned_env: Mapping[str, str]
    side_channel: Mapping[str, str]
    connectors: Connectors
    lmcache_config: Mapping[str, Json]
    routing: Mapping[str, str]
    cases: tuple[KnownIssue, ...]
    nested_engine_file: bool = True
    worker_port_max: int = 65535
    splits_served_name: bool = False
    registrations: Mapping[str, str] = field(default_factory=dict)
    sized_nixl_cpu_buffer: bool = False
    status_metrics: Mapping[str, str] = field(default_factory=dict)
    tiers: str = ""
    catalogue_text: Callable[[str], str]
    lock_text: Callable[[str, str], str]
    load_relations: Callable[[], tuple[Relation, ...]]
    load_tiers: Callable[[str], Mapping[str, TierKind]]

    @cached_property
    def engine_options(self) -> Mapping[str, Option]:
        """Return every option of this stack's vLLM by its snake_case name and aliases."""
        data = json.loads(self.catalogue_text("vllm"))["options"]
        return {name: option_of(entry) for name, entry in data.items()}

    @cached_property
    def tier_kinds(self) -> Mapping[str, TierKind]:
        """Return the kinds of storage tiers that its LMCache has; empty where nobody looked."""
        return self.load_tiers(self.tiers) if self.tiers else {}

    @cached_property
    def environment_names(self) -> frozenset[str]:
        """Return every VLLM_* variable that this stack's vLLM reads."""
        return frozenset(json.loads(self.catalogue_text("vllm-env"))["names"])

    @cached_property
    def relations(self) -> tuple[Relation, ...]:
        """Return what this stack's vLLM asks of options together."""
        release = self.versions["vllm"]
        return tuple(item for item in self.load_relations() if release in item.releases)


def parse_stack(
    text: str,
    catalogue_text: Callable[[str], str],
    lock_text: Callable[[str, str], str],
    load_relations: Callable[[], tuple[Relation, ...]],
    load_tiers: Callable[[str], Mapping[str, TierKind]],
) -> Stack:
    """Read a stack file.

    Errors: any exception where the file does not follow schemas/stack.schema.json.
    """
    data = parse_data(text)
    starts = data.pop("starts")
    return Stack(
        **{
            **data,
            "python": tuple(data["python"]),
            "architectures": tuple(data["architectures"]),
            "pairing": Pairing(**{**data["pairing"], "hashed": tuple(data["pairing"]["hashed"])}),
            "kv_cache_layouts": tuple(data["kv_cache_layouts"]),
            "platforms": {key: _platform(item) for key, item in data["platforms"].items()},
            "starts": {key: _start(item) for key, item in starts.items()},
            "frontend": _frontend(data["frontend"]),
            "settings": tuple(_setting(item) for item in data["settings"]),
            "connectors": _connectors(data["connectors"]),
            "cases": tuple(_case(item) for item in data["cases"]),
            "catalogue_text": catalogue_text,
            "lock_text": lock_text,
            "load_relations": load_relations,
            "load_tiers": load_tiers,
        }
    )


def _platform(data: dict[str, Any]) -> Platform:
    lists = ("requirements", "without", "imports", "worker_argv", "cache_server_argv")
    steps = tuple(tuple(step) for step in data.get("install", ()))
    runs = tuple(Run(**item) for item in data.get("runs", ()))
    fixed = {key: tuple(data[key]) for key in lists}
    fixed["extensions"] = tuple(data.get("extensions", ()))
    return Platform(**{**data, "runs": runs, "install": steps, **fixed})


def _start(data: dict[str, Any]) -> ProcessSpec:
    return ProcessSpec(**{**data, "ports": _ports(data), "argv": tuple(data["argv"])})


def _ports(data: dict[str, Any]) -> dict[str, PortUse]:
    return {word: PortUse(**use) for word, use in data.get("ports", {}).items()}


def _connectors(data: dict[str, Any]) -> Connectors:
    command = data.get("command")
    return Connectors(
        **{
            **data,
            "without_hybrid_manager": tuple(data["without_hybrid_manager"]),
            "without_context_parallel": tuple(data.get("without_context_parallel", ())),
            "command": ConnectorCommand(**command) if command else None,
        }
    )


def _frontend(data: dict[str, Any]) -> FrontendSpec:
    argv = {key: tuple(item) for key, item in data["argv"].items()}
    return FrontendSpec(**{**data, "argv": argv, "passes_key": tuple(data.get("passes_key", ()))})


def _setting(data: dict[str, Any]) -> Setting:
    return Setting(
        when=parse_when(data["when"]),
        ports=_ports(data),
        argv=tuple(data.get("argv", ())),
        env=data.get("env", {}),
        engine_args=data.get("engine_args", {}),
        ready=ReadinessProbe(**data["ready"]) if "ready" in data else None,
    )


def _case(data: dict[str, Any]) -> KnownIssue:
    when = parse_when(data["when"])
    return KnownIssue(**{"env": {}, **data, "when": when, "at": tuple(data["at"])})


def option_of(data: dict[str, Any]) -> Option:
    """Read one entry of a catalogue's options."""
    return Option(
        flag=data["flag"],
        types=tuple(data["types"]),
        many=data.get("many", False),
        nullable=data.get("nullable", False),
        negatable=data.get("negatable", False),
        repeat=data.get("repeat", False),
        json=data.get("json", ""),
        choices=tuple(data.get("choices", ())),
        deprecated=data.get("deprecated", ""),
        replaced_by=data.get("replaced_by", ""),
        bounds=data.get("bounds", {}),
    )
