"""A stack's typed form, read from its YAML file and its catalogues."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from compiler.document import Json
from compiler.source import parse_data


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option of an engine's command line, from a catalogue.

    many: takes several values; repeat: given once per value; json: "array" for JSON text of a list.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """How a kind of process starts: argv items with {placeholders}, and what is watched."""

    argv: tuple[Any, ...]
    env: Mapping[str, str]
    ready_path: str
    ready_timeout_s: int
    metrics_path: str
    stop_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """What differs between accelerators: packages, the engine's defaults, how things start.

    transfer_env: what a worker with a NIXL side channel needs for transfers on one host.
    """

    proof: str
    requirements: tuple[str, ...]
    without: tuple[str, ...]
    imports: tuple[str, ...]
    block_size: int
    gpu_memory_utilization: float
    env: Mapping[str, str]
    transfer_env: Mapping[str, str]
    worker_argv: tuple[str, ...]
    cache_server_argv: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A combination that this stack refuses, warns of, or needs a setting for.

    `when` names facts of a worker and the values that make the case hold; `at` is the profile's key
    it is reported at.
    """

    id: str
    when: Mapping[str, tuple[Json, ...]]
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
    """One released set of engine versions."""

    name: str
    summary: str
    versions: Mapping[str, str]
    python: tuple[str, ...]
    architectures: tuple[str, ...]
    platforms: Mapping[str, Platform]
    starts: Mapping[str, Start]
    engine_args: Mapping[str, Json]
    owned_engine_args: Mapping[str, str]
    paired_engine_args: tuple[str, ...]
    env: Mapping[str, str]
    owned_env: Mapping[str, str]
    side_channel: Mapping[str, str]
    connectors: Mapping[str, Any]
    lmcache_config: Mapping[str, Json]
    routing: Mapping[str, str]
    frontend_argv: Mapping[str, tuple[Any, ...]]
    cases: tuple[Case, ...]
    status_metrics: Mapping[str, str] = field(default_factory=dict)
    catalogue_text: Callable[[str], str]

    @cached_property
    def engine_options(self) -> Mapping[str, Option]:
        """Give every option of this stack's vLLM by its snake_case name and aliases."""
        data = json.loads(self.catalogue_text("vllm"))["options"]
        return {name: _option(entry) for name, entry in data.items()}

    @cached_property
    def environment_names(self) -> frozenset[str]:
        """Give every VLLM_* variable that this stack's vLLM reads."""
        return frozenset(json.loads(self.catalogue_text("vllm-env"))["names"])


def parse_stack(text: str, catalogue_text: Callable[[str], str]) -> Stack:
    """Read a stack file; a mistake in it is a bug of the program, not of a profile."""
    data = parse_data(text)
    starts = data.pop("starts")
    return Stack(
        **{
            **data,
            "python": tuple(data["python"]),
            "architectures": tuple(data["architectures"]),
            "paired_engine_args": tuple(data["paired_engine_args"]),
            "platforms": {key: _platform(item) for key, item in data["platforms"].items()},
            "starts": {key: _start(item) for key, item in starts.items()},
            "frontend_argv": {key: tuple(item) for key, item in data["frontend_argv"].items()},
            "cases": tuple(_case(item) for item in data["cases"]),
            "catalogue_text": catalogue_text,
        }
    )


def _platform(data: dict[str, Any]) -> Platform:
    lists = ("requirements", "without", "imports", "worker_argv", "cache_server_argv")
    return Platform(**{**data, **{key: tuple(data[key]) for key in lists}})


def _start(data: dict[str, Any]) -> Start:
    return Start(**{**data, "argv": tuple(data["argv"])})


def _case(data: dict[str, Any]) -> Case:
    when = {
        key: tuple(value) if isinstance(value, list) else (value,)
        for key, value in data["when"].items()
    }
    return Case(**{"env": {}, **data, "when": when, "at": tuple(data["at"])})


def _option(data: dict[str, Any]) -> Option:
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
    )
