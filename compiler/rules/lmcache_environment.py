"""Every LMCACHE_* variable of a worker is one that LMCache reads, with a value it can read.

LMCache looks only for names it knows, so a misspelt one changes nothing and nothing says so. A
value it cannot convert is a warning in its log, and yes and on mean false.

Accepted:
    name: env
    stack: vllm-0.25
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    lmcache: {mode: in_process}
    workers:
      - role: aggregated
        gpus: [0]
        env: {LMCACHE_LOOKUP_TIMEOUT_MS: 1000}
        engine_args: {enforce_eager: true}

Rejected:
    name: env
    stack: vllm-0.25
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    lmcache: {mode: in_process}
    workers:
      - role: aggregated
        gpus: [0]
        env: {LMCACHE_LOOKUP_TIMEOUT: 1000}
        engine_args: {enforce_eager: true}

Source: the catalogue schemas/stacks/<stack>/lmcache-config.json; lmcache 0.5.6 v1/config.py
_update_config_from_env, v1/config_base.py _to_bool.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator

from compiler.diagnostic import Diagnostic, Rule, Severity, Suggestions
from compiler.stacks.lmcache_keys import PREFIX, LMCacheKeys, lmcache_keys, unquoted, variable
from compiler.stacks.stack import Option, Stack
from compiler.topology import CacheMode, Topology, WorkerGroup

RULE = Rule(
    "lmcache-environment",
    Severity.ERROR,
    "LMCache goes on without a variable that it does not know or cannot read",
)
_TRUTHS = {"true": "true", "1": "true", "yes": "true", "on": "true", "y": "true", "t": "true"}
_READ_AS_MEANT = frozenset({"true", "1", "false", "0", "no", "off"})


def check(topology: Topology, stack: Stack) -> Iterator[Diagnostic]:
    """Report unknown, renamed, unread and unreadable LMCACHE_* variables."""
    named = [
        (group, name)
        for group in topology.workers
        for name in group.env
        if name.startswith((PREFIX, "LM_CACHE_")) and name not in stack.owned_env
    ]
    keys, suggestions = lmcache_keys(stack) if named else None, Suggestions()
    for group, name in named:
        if keys is None or _is_read_besides(name, keys):
            continue
        if name in keys.options:
            yield from _check_one(topology, group, name, stack, keys)
        else:
            yield _unknown(group, name, stack, keys, suggestions)


def _is_read_besides(name: str, keys: LMCacheKeys) -> bool:
    return name in keys.others or name.startswith(keys.prefixes)


def _check_one(
    topology: Topology, group: WorkerGroup, name: str, stack: Stack, keys: LMCacheKeys
) -> Iterator[Diagnostic]:
    if name in {variable(key) for key in stack.lmcache_config}:
        message = f"{name} would replace what dync writes into LMCache's file"
        yield RULE.at(
            group.origin.key("env", name),
            message,
            fix="remove it",
            why="a variable outranks LMCache's file, and the other workers would not have it",
        )
    elif topology.lmcache.mode is not CacheMode.IN_PROCESS or not topology.uses_lmcache(group):
        where = "this worker has no LMCache"
        if topology.uses_lmcache(group):
            where = "mode multiprocess reads none of LMCache's own keys"
        yield RULE.at(
            group.origin.key("env", name),
            f"nothing reads {name} here: {where}",
            fix="remove it",
            why="only LMCache inside a worker reads its configuration from the environment",
            severity=Severity.WARNING,
        )
    else:
        yield from _unreadable(group, name, keys.options[name])


def _unknown(
    group: WorkerGroup, name: str, stack: Stack, keys: LMCacheKeys, suggestions: Suggestions
) -> Diagnostic:
    release = f"LMCache {stack.versions['lmcache']}"
    new = keys.renamed.get(name)
    if new in keys.options:
        kept = name in keys.kept
        return RULE.at(
            group.origin.key("env", name),
            f"{name} is deprecated in {release}" if kept else f"{release} drops {name}",
            fix=f"write {new}",
            label=f"now {new}",
            why="a later LMCache will not know it" if kept else None,
            severity=Severity.WARNING if kept else None,
        )
    known = [known.removeprefix(PREFIX) for known in (*keys.options, *sorted(keys.others))]
    near = suggestions.of(name.removeprefix("LM_CACHE_").removeprefix(PREFIX), known)
    return RULE.at(
        group.origin.key("env", name),
        f"{release} reads no variable {name}",
        fix=f"write {PREFIX}{near}" if near else "remove it",
        label=f"did you mean {PREFIX}{near}?" if near else "",
    )


def _unreadable(group: WorkerGroup, name: str, option: Option) -> Iterator[Diagnostic]:
    """Report a value that LMCache's converter refuses, or reads as something else."""
    value = group.env[name]
    kind = option.types[0]
    why, fix = _KINDS[kind](unquoted(value), option.many) if kind in _KINDS else ("", "")
    if why:
        yield RULE.at(group.origin.of("env", name), f"{name}={value} {why}", fix=fix)


def _number(
    convert: Callable[[str], object], one: str, several: str
) -> Callable[[str, bool], tuple[str, str]]:
    def read(text: str, many: bool) -> tuple[str, str]:
        what = several if many else one
        parts = [part.strip() for part in text.split(",") if part.strip()] if many else [text]
        try:
            for part in parts:
                convert(part)
        except ValueError:
            return f"is not {what}", f"write {what} without a unit: {_sample(parts, convert)}"
        return "", ""

    return read


def _sample(parts: list[str], convert: Callable[[str], object]) -> str:
    """Return the numbers that a text begins with, or 1."""
    found = [re.match(r"[0-9]+(?:\.[0-9]+)?", part) for part in parts]
    numbers = [match.group() for match in found if match]
    try:
        for number in numbers:
            convert(number)
    except ValueError:
        return "1"
    return ",".join(numbers) or "1"


def _boolean(text: str, _many: bool) -> tuple[str, str]:
    if text.lower() in _READ_AS_MEANT:
        return "", ""
    return "is false for LMCache", f'write "{_TRUTHS.get(text.lower(), "false")}"'


def _object(text: str, _many: bool) -> tuple[str, str]:
    fix = """write JSON of a mapping, such as '{"save_only_first_rank": true}'"""
    try:
        is_mapping = isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return "is not JSON", fix
    return ("", "") if is_mapping else ("is not a mapping", fix)


_KINDS: dict[str, Callable[[str, bool], tuple[str, str]]] = {
    "integer": _number(int, "a whole number", "comma-separated whole numbers"),
    "number": _number(float, "a number", "comma-separated numbers"),
    "boolean": _boolean,
    "object": _object,
}
