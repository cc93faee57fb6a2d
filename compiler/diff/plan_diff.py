"""Say what differs between two forms of a process, or two plans, in the words of the plan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from compiler.document import Json
from compiler.emit.quoting import comment, yaml_scalar
from compiler.plan import Plan
from compiler.process import Kind, Launch, Process

Facts = dict[str, Json]
_ABSENT = "not there"
_MAX = 120
_WRAPPINGS = ("kv_connector_extra_config", "connectors")  # say nothing of their own


def process_differences(old: Process, new: Process) -> tuple[str, ...]:
    """Return a line for each fact of a process that differs: `what: before -> after`."""
    return tuple(_differences(_facts(old), _facts(new)))


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


def _facts(process: Process) -> Facts:
    ready = process.ready
    facts: Facts = {"role": process.role.value if process.role else process.kind.value}
    facts["GPUs"] = ", ".join(process.gpus)
    facts |= {f"port {listen.purpose}": listen.port for listen in process.listens}
    facts |= {f"address {listen.purpose}": listen.host for listen in process.listens}
    facts |= _launch_facts(process.launch, "nginx" if process.kind is Kind.PROXY else "engine")
    if isinstance(process.without_lmcache, Launch):
        facts |= _prefixed(
            "without LMCache, ", _launch_facts(process.without_lmcache, "engine"), facts
        )
    facts |= {f"secret {name} from": file for name, file in process.secrets.items()}
    facts |= {
        f"tier {number}": f"{tier.kind} {tier.place}"
        for number, tier in enumerate(process.tiers, 1)
    }
    facts["starts after"] = ", ".join(process.after)
    facts["ready path"], facts["ready body"] = ready.path, ready.body
    facts["ready within s"], facts["stops within s"] = ready.timeout_s, process.stop_s
    return facts


def _prefixed(prefix: str, facts: Facts, known: Facts) -> Facts:
    """Name the facts of a second form that the first one does not have alike."""
    return {f"{prefix}{name}": value for name, value in facts.items() if known.get(name) != value}


def _launch_facts(launch: Launch, engine: str) -> Facts:
    facts = _options(launch.argv)
    facts |= {f"env {name}": value for name, value in launch.env.items()}
    facts |= dict(_flat(engine, launch.engine_args))
    facts |= dict(_flat("KV transfer", launch.kv_transfer_config))
    facts |= dict(_flat("LMCache file", launch.lmcache_config))
    return facts


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


def _flat(name: str, value: Any) -> Iterator[tuple[str, Json]]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _flat(name if key in _WRAPPINGS else f"{name} {key}", item)
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        for number, item in enumerate(value, 1):
            yield from _flat(f"{name} {number}", item)
    elif isinstance(value, list):
        yield name, ", ".join(map(str, value))
    elif value != {}:
        yield name, value
