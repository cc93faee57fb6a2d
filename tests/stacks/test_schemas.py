"""The schemas of stacks, tiers and relations explain every key, and know what the types know."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, fields
from enum import Enum
from typing import Any

import pytest

from compiler.library import load_stack
from compiler.load.yaml_tree import load, parse_data
from compiler.resolve.conditions import worker_facts
from compiler.resolve.pairing import factors
from compiler.shipped_files import data_text, profile_schema, schema, stack_names
from compiler.stacks.lint.lint import CHECKS
from compiler.stacks.relations import Relation, parse_relations
from compiler.stacks.stack import (
    ConnectorCommand,
    Connectors,
    FrontendSpec,
    KnownIssue,
    Pairing,
    Platform,
    PortUse,
    ProcessSpec,
    ReadinessProbe,
    Run,
    Setting,
    Stack,
)
from compiler.stacks.tier_specs import TierConstraint, TierSpec, TierVariant
from compiler.topology import Accelerator, CacheMode, Role, TopologyKind
from tests.stacks.support import SHIPPED, topology_of

STACK = schema("stack.schema.json")
TIERS = schema("tiers.schema.json")
RELATIONS = schema("engine_relations.schema.json")
DEFS: dict[str, Any] = {**STACK["$defs"], **TIERS["$defs"]}
LOADED = {"catalogue_text", "lock_text", "load_relations", "load_tiers"}


def subschemas(node: Any, at: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Return every schema in a schema, by its place."""
    yield at, node
    for key in ("properties", "$defs"):
        for name, below in node.get(key, {}).items():
            yield from subschemas(below, f"{at}.{name}")
    for key in ("items", "additionalProperties", "propertyNames", "then", "else"):
        if isinstance(node.get(key), dict):
            yield from subschemas(node[key], f"{at}.{key}")


@pytest.mark.parametrize("kind", CHECKS, ids=lambda kind: str(kind.schema))
def test_every_part_is_explained(kind: Any) -> None:
    parts = list(subschemas(schema(kind.schema), "$"))
    assert len(parts) > 20
    for at, part in parts:
        assert part.keys() >= {"description"} or set(part) == {"$ref"}, at


@pytest.mark.parametrize("kind", CHECKS, ids=lambda kind: str(kind.schema))
def test_every_mapping_is_closed_or_says_what_it_takes(kind: Any) -> None:
    free = {
        at.rpartition(".")[2]
        for at, part in subschemas(schema(kind.schema), "$")
        if part.get("type") == "object" and part.get("additionalProperties") is None
    }
    assert free <= {
        *("engine_args", "lmcache_config", "ready_body", "body", "kv_connector_extra_config"),
        *("config", "spec"),  # LMCache's own keys; one of two closed forms
    }


@pytest.mark.parametrize(
    ("cls", "part"),
    [
        (Stack, STACK),
        (Platform, DEFS["platform"]),
        (Run, DEFS["platform"]["properties"]["runs"]["items"]),
        (ProcessSpec, DEFS["process"]),
        (PortUse, DEFS["ports"]["additionalProperties"]),
        (FrontendSpec, STACK["properties"]["frontend"]),
        (Connectors, STACK["properties"]["connectors"]),
        (ConnectorCommand, STACK["properties"]["connectors"]["properties"]["command"]),
        (Pairing, STACK["properties"]["pairing"]),
        (Setting, DEFS["setting"]),
        (ReadinessProbe, DEFS["setting"]["properties"]["ready"]),
        (KnownIssue, DEFS["case"]),
        (TierVariant, DEFS["offered"]["properties"]["instead"]["items"]),
        (TierConstraint, DEFS["constraint"]),
        (Relation, RELATIONS["items"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_the_schema_has_the_fields_of_the_type(cls: Any, part: dict[str, Any]) -> None:
    """What the type must be given is required, but for what the parser fills in."""
    filled = {ProcessSpec: {"ports"}, KnownIssue: {"env"}}.get(cls, set())
    filled |= {"ports", "argv", "env", "engine_args"} if cls is Setting else set()
    known = {item.name: item for item in fields(cls) if item.name not in LOADED}
    needed = {
        name
        for name, item in known.items()
        if item.default is MISSING and item.default_factory is MISSING
    }
    assert set(part["properties"]) == set(known)
    assert set(part["required"]) == needed - filled


def test_every_field_of_a_tier_can_be_written() -> None:
    known = {item.name for item in fields(TierSpec)}
    assert known == set(DEFS["offered"]["properties"]) | set(DEFS["refused"]["properties"])


def test_every_stacks_release_was_looked_up_in_the_relations() -> None:
    """A release that no relation names is asked nothing of options together."""
    relations = parse_relations(data_text("engine_relations.yaml"))
    named = {release for relation in relations for release in relation.releases}
    wanted = {load_stack(name).versions["vllm"] for name in stack_names()}
    assert wanted <= named, "schemas/engine_relations.yaml lacks a release"


def test_the_kinds_of_tiers_are_those_of_profiles() -> None:
    tiers = profile_schema()["properties"]["lmcache"]["properties"]["tiers"]
    kinds = set(TIERS["properties"]["kinds"]["properties"])
    assert kinds == set(tiers["items"]["properties"]), "schemas/tiers.schema.json names them too"


@pytest.mark.parametrize(
    ("name", "enum"),
    [
        ("accelerator", Accelerator),
        ("topology", TopologyKind),
        ("mode", CacheMode),
        ("role", Role),
    ],
)
def test_closed_sets_are_those_of_the_code(name: str, enum: type[Enum]) -> None:
    assert DEFS[name]["enum"] == [item.value for item in enum]


def test_the_facts_of_a_condition_are_those_of_a_worker() -> None:
    topology = topology_of("")
    facts = worker_facts(topology, topology.workers[0], lmcache=True)
    named = STACK["$defs"]["when"]["properties"]
    assert all(facts(name) is not None for name in named)
    assert set(named) == {
        "accelerator", "topology", "mode", "role", "routing", "lmcache"
    }  # fmt: skip


def test_what_a_handshake_hashes_is_what_the_code_compares() -> None:
    from dataclasses import replace

    enum = STACK["properties"]["pairing"]["properties"]["hashed"]["items"]["enum"]
    stack, topology = load_stack("vllm-0.32"), topology_of("")
    every = replace(stack, pairing=replace(stack.pairing, hashed=tuple(enum)))
    found = [item.name for item in factors(topology, every, topology.workers[0], None)]
    assert found[: len(enum)] == enum


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_file_reads_the_same_with_positions(name: str) -> None:
    """What is checked is what the program runs with, though two readers read it."""
    document = load(data_text(name), name).value
    assert document is not None
    assert document.root.plain() == parse_data(data_text(name))
