"""Make a profile's storage tiers those of one process, by its stack's forms."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from compiler.byte_units import GIB
from compiler.document import Json
from compiler.errors import CompilerBug
from compiler.process import ProcessName, Tier, TierServer
from compiler.resolve.tier_values import Values, options_of, tier_values
from compiler.stacks.placeholders import fill, text_of
from compiler.stacks.stack import Stack
from compiler.stacks.tier_specs import TierSpec, TierVariant
from compiler.stacks.when import When
from compiler.topology import TierChoice, Topology


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessTiers:
    """All tiers of one process: what its argv, configuration and environment gain by them.

    adapters: JSON texts in the order in which they are asked. secrets: variables to files.
    """

    adapters: tuple[str, ...] = ()
    config: Mapping[str, Json] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    tiers: tuple[Tier, ...] = ()


def process_tiers(
    topology: Topology, stack: Stack, process: ProcessName, store_port: int
) -> ProcessTiers:
    """Return the tiers of one process that caches; store_port: where the managed Redis listens.

    Errors: none; the rules of tiers have refused what a stack or a mode does not have.
    """
    adapters: list[str] = []
    config: dict[str, Json] = {}
    env: dict[str, str] = {}
    secrets: dict[str, str] = {}
    tiers: list[Tier] = []
    for number, choice in enumerate(topology.lmcache.tiers, 1):
        form = spec_of(choice, topology, stack)
        if form is None or form.refused:
            raise CompilerBug(f"no rule refused the tier {choice.kind}")
        values = tier_values(choice, form, number, process, store_port)
        values["folder"] = _folder(form, values)
        if form.adapter is not None:
            adapters.append(json.dumps(_filled(form.adapter, values), ensure_ascii=False))
        config = join(config, tier_config(choice, form, values))
        env.update(_texts(form.env, values))
        for variant in _variants(form, choice):
            env.update(_texts(variant.env, values))
        secrets.update(_texts(form.secrets, values))
        tiers.append(_tier(choice, form, values))
    return ProcessTiers(
        adapters=tuple(adapters), config=config, env=env, secrets=secrets, tiers=tuple(tiers)
    )


def spec_of(choice: TierChoice, topology: Topology, stack: Stack) -> TierSpec | None:
    """Return what a tier is in the profile's mode; None where the stack does not say."""
    kind = stack.tier_kinds.get(choice.kind)
    return kind.modes.get(topology.lmcache.mode.value) if kind else None


def applies_to(when: When, choice: TierChoice) -> bool:
    """Return whether a tier's options meet a condition."""
    return when.matches(options_of(choice).get)


def tier_config(choice: TierChoice, form: TierSpec, values: Values) -> dict[str, Json]:
    """Return the keys of LMCache's configuration that one tier writes."""
    template: dict[str, Json] = dict(form.config)
    for variant in _variants(form, choice):
        template = join(template, variant.config, replace=True)
    filled = _filled(template, values)
    return filled if isinstance(filled, dict) else {}


def join(
    one: Mapping[str, Json], other: Mapping[str, Json], *, replace: bool = False
) -> dict[str, Json]:
    """Join two mappings; lists are joined too, unless the second is to replace the first."""
    joined = dict(one)
    for key, value in other.items():
        there = joined.get(key)
        if isinstance(there, dict) and isinstance(value, dict):
            joined[key] = join(there, value, replace=replace)
        elif isinstance(there, list) and isinstance(value, list) and not replace:
            joined[key] = [*there, *value]
        else:
            joined[key] = value
    return joined


def _variants(form: TierSpec, choice: TierChoice) -> Iterator[TierVariant]:
    return (variant for variant in form.instead if applies_to(variant.when, choice))


def _folder(form: TierSpec, values: Values) -> str:
    path = str(fill(form.folder, values)) if form.folder else ""
    return f"{path.rstrip('/')}/{values['process']}" if form.own_folder else path


def _tier(choice: TierChoice, form: TierSpec, values: Values) -> Tier:
    size, keep = fill(form.size_gb, values), fill(form.keep_gb, values)
    host, port = values["host"], values["port"]
    server = None
    if form.server and isinstance(port, int) and not values["tls"]:
        secret = next(iter(_texts(form.secrets, values)), "")
        server = TierServer(
            host=str(host),
            port=port,
            username=str(values.get("username") or ""),
            secret=secret,
            required=form.server["required"],
        )
    return Tier(
        kind=choice.kind,
        place=str(fill(form.place, values)),
        folder=str(values["folder"]),
        size_bytes=_bytes(size),
        keep_bytes=_bytes(keep),
        persistent=form.persistent and not values["is_managed"],
        shared=form.shared,
        server=server,
    )


def _bytes(gib: Json) -> int | None:
    return int(gib * GIB) if isinstance(gib, (int, float)) else None


def _filled(template: Json, values: Values) -> Json:
    return _without_nothing(fill(_with_keys(template, values), values))


def _with_keys(value: Json, values: Values) -> Json:
    """Fill the names of keys, which some of LMCache's have a tier's number in."""
    if not isinstance(value, dict):
        return value
    return {str(fill(key, values)): _with_keys(item, values) for key, item in value.items()}


def _without_nothing(value: Json) -> Json:
    """Leave out what filled to nothing, and what is left without entries by that."""
    if isinstance(value, list):
        return [_without_nothing(item) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {key: _without_nothing(item) for key, item in value.items() if item is not None}
    return {key: item for key, item in kept.items() if item != {}}


def _texts(template: Mapping[str, str], values: Values) -> dict[str, str]:
    filled = {name: fill(value, values) for name, value in template.items()}
    return {name: text_of(value) for name, value in filled.items() if value is not None}
