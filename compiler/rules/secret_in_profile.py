"""No secret stands in a profile: everything that is made of it can be read by everybody.

What a profile says lands in scripts, units, engine files and plan.json. Files keep secrets:
secret_env for any variable, api_key_file, and password_file of a tier. A value is taken for one by
its name, or as an address with a password.

Accepted:
    name: secret
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    workers: [{role: aggregated, gpus: [0], secret_env: {HF_TOKEN: /etc/dync/hf-token}}]

Reported:
    name: secret
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    workers: [{role: aggregated, gpus: [0], env: {HF_TOKEN: hf_abc}}]

Source: this compiler's own choice: a bundle holds no secret (docs/design/plan.md); Dynamo 1.6.1,
the variables NATS_AUTH_* and ETCD_AUTH_* of its runtime (dynamo/_core.abi3.so).
"""

from __future__ import annotations

from collections.abc import Iterator

from compiler.diagnostic import Diagnostic, Rule, Severity
from compiler.document import Json
from compiler.load.secrets import is_hidden, is_secret, without_account
from compiler.topology import Origin, TierChoice, Topology, WorkerGroup

RULE = Rule(
    "secret-in-profile",
    Severity.WARNING,
    "the profile, and scripts, units and plan.json made of it, can be read by everybody",
)
_FOLDER = "/etc/dync"
_OF_ALL = ("NATS_AUTH_", "ETCD_AUTH_")
"""What Dynamo's frontend needs as its workers do."""
_VARIABLES = {"hf_token": "HF_TOKEN", "api_key": "VLLM_API_KEY"}
"""Options of vLLM that a variable gives too; source: vLLM 0.32.0 vllm/envs.py, huggingface_hub."""


def check(topology: Topology) -> Iterator[Diagnostic]:
    """Report values that by their names, or as addresses with a password, hold a secret."""
    for group in topology.workers:
        yield from _variables(topology, group)
        for name, value in group.engine_args.items():
            yield from _option(group, name, value)
    for tier in topology.lmcache.tiers:
        if tier.kind == "custom":
            yield from _custom(tier)


def _variables(topology: Topology, group: WorkerGroup) -> Iterator[Diagnostic]:
    added = False  # to secret_env of the group, by the edit of an earlier finding
    for name, value in group.env.items():
        if not _holds(name, value):
            continue
        line = group.origin.key("env", name).line
        way = _key_for(name, topology)
        if not way and name.startswith(_OF_ALL):
            way = f"write at the top of the profile {_mapping(name)}"
        elif not way:
            way, added = _beside(group, "env", name, added=added), True
        yield _found(group.origin, ("env", name), name, f"remove {name} (line {line}), and {way}")


def _key_for(name: str, topology: Topology) -> str:
    """Return the edit where a key of its own takes the secret's file, else nothing."""
    if name == "VLLM_API_KEY":
        return f"write frontend.api_key_file: {_FOLDER}/api-key, with the key in that file"
    kinds = [tier.kind for tier in topology.lmcache.tiers if "password_file" in tier.options]
    if kinds and name.startswith("LMCACHE_") and name.endswith("_PASSWORD"):
        return f"write password_file: {_FOLDER}/{kinds[0]}-password in lmcache.tiers, {kinds[0]}"
    if name.startswith("LMCACHE_") and name.endswith("_URL"):
        return "name the server in lmcache.tiers, with password_file"
    return ""


def _beside(group: WorkerGroup, key: str, name: str, *, added: bool) -> str:
    """Return the edit of a group's secret_env, which is there, is added earlier, or is new."""
    if group.origin.wrote("secret_env"):
        line = group.origin.key("secret_env").line
        return f"add to secret_env (line {line}) {_entry(name)}{_VALUE}"
    if added:
        return f"add to that secret_env {_entry(name)}{_VALUE}"
    return f"write beside {key} {_mapping(name)}"


_VALUE = ", with the value in that file, mode 600"


def _mapping(name: str) -> str:
    return f"secret_env: {{{_entry(name)}}}{_VALUE}"


def _entry(name: str) -> str:
    return f"{name}: {_FOLDER}/{name.lower().replace('_', '-')}"


def _option(group: WorkerGroup, name: str, value: Json) -> Iterator[Diagnostic]:
    place = _place_in(name, value)
    if place is None or name == "api_key":  # rule engine-args refuses it
        return
    steps = ("engine_args", *place)
    line, variable = group.origin.key(*steps).line, _VARIABLES.get(name)
    way = "give the engine its secret by a variable that it reads, in secret_env"
    if variable:
        added = any(_holds(*pair) and not pair[0].startswith(_OF_ALL) for pair in group.env.items())
        way = _beside(group, "engine_args", variable, added=added)
    yield _found(group.origin, steps, str(place[-1]), f"remove it (line {line}), and {way}")


def _custom(tier: TierChoice) -> Iterator[Diagnostic]:
    for key, value in tier.options.items():
        place = _place_in(key, value)
        if place is not None:
            line = tier.origin.key(*place).line
            way = "give its client the secret by a variable that it reads, in lmcache.secret_env"
            yield _found(tier.origin, place, str(place[-1]), f"remove it (line {line}), and {way}")


def _place_in(name: str, value: Json) -> tuple[str | int, ...] | None:
    """Return the path of the first secret in a value of this name, or None."""
    left: list[tuple[tuple[str | int, ...], str, Json]] = [((name,), name, value)]
    while left:
        path, key, item = left.pop()
        if isinstance(item, dict):
            left += [((*path, below), below, it) for below, it in reversed(item.items())]
        elif isinstance(item, list):
            left += [((*path, at), key, it) for at, it in reversed(list(enumerate(item)))]
        elif isinstance(item, str) and _holds(key, item):
            return path
    return None


def _holds(name: str, value: str) -> bool:
    if is_secret(name):
        return is_hidden(value) or value.startswith("/")  # the variable would hold the path itself
    return "://" in value and "@" in value and without_account(value) != value


def _found(origin: Origin, path: tuple[str | int, ...], name: str, fix: str) -> Diagnostic:
    return RULE.at(origin.key(*path), f"the value of {name} looks like a secret", fix=fix)
