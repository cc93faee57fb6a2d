"""Tiers do not write the same setting twice, nor does a worker's environment.

In process all tiers share one configuration of LMCache, which has one disk and one URL. A variable
outranks it without a word.

Accepted:
    name: tiers
    stack: vllm-0.25
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    lmcache:
      mode: in_process
      tiers: [{disk: {path: /mnt/a, size_gb: 100}}, {fs: {path: /mnt/kv}}]
    workers: [{role: aggregated, gpus: [0]}]

Rejected:
    name: tiers
    stack: vllm-0.25
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    lmcache:
      mode: in_process
      tiers: [{redis: {url: "redis://10.0.0.5:6379"}}, {infinistore: {host: 10.0.0.6}}]
    workers: [{role: aggregated, gpus: [0], engine_args: {enforce_eager: true}}]

Source: lmcache 0.5.6 v1/config.py, local_disk and remote_url; v1/config_base.py, load_from_env
after the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from compiler.diagnostic import Diagnostic, Label, Rule, Severity
from compiler.document import Json
from compiler.process import ProcessName
from compiler.resolve.allocation import needs_frontend
from compiler.resolve.secret_env import KEY, SecretFiles, of_caches, of_workers
from compiler.resolve.tier_values import tier_values
from compiler.resolve.tiers import spec_of, tier_config
from compiler.stacks.lmcache_keys import variable
from compiler.stacks.stack import Stack
from compiler.stacks.tier_specs import TierSpec
from compiler.topology import CacheMode, TierChoice, Topology

RULE = Rule(
    "tier-conflict", Severity.ERROR, "in process all tiers share one configuration of LMCache"
)


def check(topology: Topology, stack: Stack) -> Iterator[Diagnostic]:
    """Report settings that two tiers want differently, and variables that replace one."""
    owners: dict[str, tuple[TierChoice, Json]] = {}
    places = _secrets_of_caches(topology, stack) if topology.lmcache.tiers else ()
    for number, tier in enumerate(topology.lmcache.tiers, 1):
        form = spec_of(tier, topology, stack)
        if form is None or form.refused:
            continue
        own: dict[str, Json] = {}
        if topology.lmcache.mode is CacheMode.IN_PROCESS:
            values = tier_values(tier, form, number, ProcessName(""), 0)
            own = dict(
                _flat(tier_config(tier, form, {**values, "folder": tier.options.get("path")}))
            )
        for key, value in own.items():
            other, theirs = owners.setdefault(key, (tier, value))
            if other is not tier and theirs != value:
                yield _twice(tier, key, other)
                break
        yield from _replaced(topology, tier, {*map(variable, own), *form.env, *form.secrets})
        for place in places:
            yield from _given_twice(tier, form, place)


def _secrets_of_caches(topology: Topology, stack: Stack) -> tuple[SecretFiles, ...]:
    """Return the files, each once, that reach processes in which tiers are."""
    if topology.lmcache.mode is CacheMode.MULTIPROCESS:
        return of_caches(topology)
    alone = not needs_frontend(topology, stack)
    found = (
        place
        for group in topology.workers
        if topology.uses_lmcache(group)
        for place in of_workers(topology, group, serves_clients=alone)
    )
    return tuple({place.origin.path: place for place in found}.values())


def _given_twice(tier: TierChoice, form: TierSpec, place: SecretFiles) -> Iterator[Diagnostic]:
    for name, template in {**form.env, **form.secrets}.items():
        option = template.strip("{}")
        if name in place.files:
            written = tier.origin.wrote(option)
            way = f"write {option} in the tier" if option in tier.options else "the tier sets it"
            yield RULE.at(
                place.origin.key(KEY, name),
                f"{name} is a variable of the tier {tier.kind}",
                fix="remove it" if written else f"remove it: {way}",
                related=(Label(span=tier.origin.key(), text="the tier"),),
                why="a variable has one value",
            )


def _flat(config: Mapping[str, Json]) -> Iterator[tuple[str, Json]]:
    """Return every setting that has one value; lists are joined."""
    for key, value in config.items():
        if isinstance(value, dict):
            yield from value.items()
        elif not isinstance(value, list):
            yield key, value


def _twice(tier: TierChoice, key: str, other: TierChoice) -> Diagnostic:
    return RULE.at(
        tier.origin.key(),
        f"{tier.kind} and {other.kind} before it both set LMCache's {key}",
        fix="remove one of them, or write mode: multiprocess, where each tier stands for itself",
        related=(Label(span=other.origin.key(), text="the first"),),
    )


def _replaced(topology: Topology, tier: TierChoice, names: set[str]) -> Iterator[Diagnostic]:
    for group in topology.workers:
        for name in group.env:
            if name in names and topology.uses_lmcache(group):
                yield RULE.at(
                    group.origin.key("env", name),
                    f"{name} would replace what the tier {tier.kind} says",
                    fix="remove it",
                    related=(Label(span=tier.origin.key(), text="the tier"),),
                    why="a variable outranks LMCache's file",
                )
