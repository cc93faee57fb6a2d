"""Say what differs between two forms of a process, or two plans, in the words of the plan."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any

from compiler.document import Json
from compiler.emit.quoting import comment, yaml_scalar
from compiler.plan import Plan
from compiler.process import Kind, Launch, Listen, Process, ProcessName, Tier

Facts = dict[str, Json]
_ABSENT = "not there"
_MAX = 120
_WRAPPINGS = ("kv_connector_extra_config", "connectors")  # say nothing of their own


def process_differences(old: Process, new: Process) -> tuple[str, ...]:
    """Return a line for each fact of a process that differs: `what: before -> after`."""
    before: Facts = {}
    after: Facts = {}
    for was, comes in zip(_parts(old), _parts(new), strict=True):
        # Text tells 1 from true and 1.0, as facts do.
        if was.of != comes.of or repr(was.of) != repr(comes.of):
            before |= was.facts(*was.of)
            after |= comes.facts(*comes.of)
    return tuple(_differences(before, after))


def plan_differences(old: Plan, new: Plan) -> tuple[str, ...]:
    """Return a line for each fact of a whole deployment that differs."""
    return tuple(_differences(_plan_facts(old), _plan_facts(new)))


def _differences(old: Facts, new: Facts) -> Iterator[str]:
    for name in {**new, **old}:
        if (name in old, old.get(name)) != (name in new, new.get(name)):
            before, after = _shown(old, name), _shown(new, name)
            yield f"{name}: {before} -> {after}" if before != after else f"{name}: changes"


def _shown(facts: Facts, name: str) -> str:
    if name not in facts:
        return _ABSENT
    value = facts[name]
    text = comment(value) if isinstance(value, str) else yaml_scalar(value)
    return text if len(text) <= _MAX else f"{text[:_MAX]}…"


def _plan_facts(plan: Plan) -> Facts:
    cache = plan.lmcache
    services = {
        f"must run already: {item.purpose} {number}": item.url
        for number, item in enumerate(plan.services, 1)
    }
    return {
        "name": plan.name,
        "stack": plan.stack,
        "topology": plan.topology.value,
        "accelerator": plan.accelerator.value,
        "model": plan.model,
        "served name": plan.served_name,
        "url": plan.url,
        "user": plan.user,
        "LMCache": cache.mode.value if cache.enabled else "off",
        "LMCache chunk size": cache.chunk_size,
        "LMCache host memory in GiB": cache.cpu_cache_gb,
        **services,
    }


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of a process, and what says its facts, which only a part that differs is asked for."""

    facts: Callable[..., Facts]
    of: tuple[Any, ...]


def _parts(process: Process) -> Iterator[_Part]:
    """Return the parts of a process in the order of their facts, as many for each process."""
    launch, ready = process.launch, process.ready
    engine = "nginx" if process.kind is Kind.PROXY else "engine"
    yield _Part(_place_facts, (process.role or process.kind, process.gpus))
    yield _Part(_listen_facts, (process.listens,))
    own = _launch_parts(launch, engine)
    yield from own
    off = process.without_lmcache  # where it is no launch, the same one has no other fact
    others = _launch_parts(off, "engine") if isinstance(off, Launch) else own
    for part, other in zip(own, others, strict=True):
        yield _Part(partial(_other_facts, part.facts), (part.of, other.of))
    yield _Part(_secret_facts, (process.secrets,))
    yield _Part(_tier_facts, (process.tiers,))
    yield _Part(_order_facts, (process.after, ready.path, ready.body))
    yield _Part(_time_facts, (ready.timeout_s, process.stop_s))


def _launch_parts(launch: Launch, engine: str) -> tuple[_Part, ...]:
    return (
        _Part(_options, (launch.argv,)),
        _Part(_env_facts, (launch.env,)),
        _Part(_flat_facts, (engine, launch.engine_args)),
        _Part(_flat_facts, ("KV transfer", launch.kv_transfer_config)),
        _Part(_flat_facts, ("LMCache file", launch.lmcache_config)),
    )


def _other_facts(facts: Callable[..., Facts], of: tuple[Any, ...], other: tuple[Any, ...]) -> Facts:
    """Name the facts of the form without LMCache that the first form does not have alike."""
    known = facts(*of)
    return {
        f"without LMCache, {name}": value
        for name, value in facts(*other).items()
        if known.get(name) != value
    }


def _place_facts(role: Enum, gpus: tuple[str, ...]) -> Facts:
    return {"role": role.value, "GPUs": ", ".join(gpus)}


def _listen_facts(listens: tuple[Listen, ...]) -> Facts:
    return {
        **{f"port {listen.purpose}": listen.port for listen in listens},
        **{f"address {listen.purpose}": listen.host for listen in listens},
    }


def _env_facts(env: Mapping[str, str]) -> Facts:
    return {f"env {name}": value for name, value in env.items()}


def _secret_facts(secrets: Mapping[str, str]) -> Facts:
    return {f"secret {name} from": file for name, file in secrets.items()}


def _tier_facts(tiers: tuple[Tier, ...]) -> Facts:
    return {f"tier {number}": f"{tier.kind} {tier.place}" for number, tier in enumerate(tiers, 1)}


def _order_facts(after: tuple[ProcessName, ...], path: str, body: str) -> Facts:
    return {"starts after": ", ".join(after), "ready path": path, "ready body": body}


def _time_facts(ready_s: int, stop_s: int) -> Facts:
    return {"ready within s": ready_s, "stops within s": stop_s}


def _flat_facts(name: str, value: Mapping[str, Json]) -> Facts:
    found: Facts = {}
    for key, item in value.items():
        _flatten(found, name if key in _WRAPPINGS else f"{name} {key}", item)
    return found


def _options(argv: tuple[str, ...]) -> Facts:
    """Return argv as its options: what stands behind one until the next belongs to it."""
    found: dict[str, list[str]] = {}
    name = "program"
    for word in argv:
        if word.startswith("--"):
            name, _, value = word.partition("=")
            found.setdefault(name, []).extend([value] if value else [])
        else:
            found.setdefault(name, []).append(word)
    return {name: " ".join(words) for name, words in found.items()}


def _flatten(found: Facts, name: str, value: Json) -> None:
    """Add what a value holds, each part under its own name."""
    if isinstance(value, dict):
        found.update(_flat_facts(name, value))
    elif not isinstance(value, list):
        found[name] = value
    elif any(isinstance(item, dict) for item in value):
        for number, item in enumerate(value, 1):
            _flatten(found, f"{name} {number}", item)
    else:
        found[name] = ", ".join(map(str, value))
