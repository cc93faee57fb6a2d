"""What secret_env names is a secret, and nothing else of the profile sets it.

A variable of env outranks one that is read from a file, and so would the key that dync reads
itself. A setting in a file would be one that neither a rule nor `dync diff` sees. The shell that
reads the files has variables that no program can inherit.

Accepted:
    name: secret
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    secret_env: {HF_TOKEN: /etc/dync/hf-token}
    workers: [{role: aggregated, gpus: [0]}]

Rejected:
    name: secret
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    secret_env: {VLLM_API_KEY: /etc/dync/api-key}
    workers: [{role: aggregated, gpus: [0]}]

Source: this compiler's own choice (docs/design/plan.md); bash 5.2, the variables that `export`
refuses or that bash sets again (run).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from compiler.diagnostic import Diagnostic, Label, Rule, Severity, Span, Suggestions
from compiler.load.secrets import is_secret
from compiler.resolve.allocation import needs_frontend
from compiler.resolve.secret_env import KEY, Places, SecretFiles, every_place, of_workers
from compiler.stacks.lmcache_keys import PREFIX, LMCacheKeys, lmcache_keys
from compiler.stacks.stack import Stack
from compiler.topology import Topology

RULE = Rule(
    "secret-env",
    Severity.ERROR,
    "a file gives what no key of the profile does, to a variable that holds nothing but a secret",
)
_SHELLS_OWN = re.compile(r"(?:BASH.*|dync_.*|DYNC_.*|_|E?UID|PPID|SHELLOPTS|SHLVL|PIPESTATUS)\Z")
_SETTING = re.compile(
    r"(?:VLLM|LMCACHE|LM_CACHE|DYN|UCX|NIXL|NCCL|GLOO|CUDA|TORCH|PYTORCH|PYTHON|HF|LD)_|PYTHON[A-Z]|PATH\Z"
)
"""Settings of the engines and of what loads them, of which a plan must show all."""


def check(topology: Topology, stack: Stack) -> Iterator[Diagnostic]:
    """Report names that are no secret of the user's, and those that env sets too."""
    places, suggestions = every_place(topology), Suggestions()
    asked = any(name.startswith(PREFIX) for place in places for name in place.files)
    keys = lmcache_keys(stack) if asked else None
    for place in places:
        for name in place.files:
            yield from _check_one(place, name, stack, keys, suggestions)
    alone = not needs_frontend(topology, stack)
    for group in topology.workers:
        reaching = of_workers(topology, group, serves_clients=alone) if group.env else ()
        for name in group.env if reaching else ():
            yield from _twice(SecretFiles(group.env, group.origin), name, reaching)


def _check_one(
    place: SecretFiles, name: str, stack: Stack, keys: LMCacheKeys | None, suggestions: Suggestions
) -> Iterator[Diagnostic]:
    span = place.origin.key(KEY, name)
    if name in stack.owned_env:
        yield RULE.at(span, f"{name} is set by dync itself", fix=f"remove it; {_way(name, stack)}")
    elif _SHELLS_OWN.match(name):
        yield RULE.at(
            span,
            f"{name} is a variable of the shell that reads the files: no program can inherit it",
            fix="remove it, or give it another name",
        )
    elif _SETTING.match(name) and not is_secret(name):
        where = f"write it where it is checked: workers[].env: {{{name}: ...}}"
        if name.startswith(PREFIX) and name.endswith("_URL"):
            where = "name the server in lmcache.tiers, with password_file"
        yield RULE.at(
            span,
            f"{name} is a setting and no secret",
            fix=f"remove it, and {where}",
            why="what an engine starts with stands in the plan, where rules and dync diff see it",
        )
    elif name.startswith("VLLM_") and name not in stack.environment_names:
        yield _unread(span, name, f"vLLM {stack.versions['vllm']}", None)
    elif keys is not None and name.startswith(PREFIX) and not _is_read(name, keys):
        known = [item for item in (*keys.options, *sorted(keys.others)) if is_secret(item)]
        near = suggestions.of(name, known)
        yield _unread(span, name, f"LMCache {stack.versions['lmcache']}", near)


def _way(name: str, stack: Stack) -> str:
    owner = stack.owned_env[name]
    file = owner.endswith("_file")
    return f"write {owner} with this path instead" if file else f"it follows from {owner}"


def _is_read(name: str, keys: LMCacheKeys) -> bool:
    return name in keys.options or name in keys.others or name.startswith(keys.prefixes)


def _unread(span: Span, name: str, release: str, near: str | None) -> Diagnostic:
    return RULE.at(
        span,
        f"{release} reads no variable {name}",
        fix=f"write {near}" if near else "remove it",
        label=f"did you mean {near}?" if near else "",
    )


def _twice(place: SecretFiles, name: str, reaching: Places) -> Iterator[Diagnostic]:
    other = next((item for item in reversed(reaching) if name in item.files), None)
    if other is not None:
        span = other.origin.key(KEY, name)
        yield RULE.at(
            place.origin.key("env", name),
            f"{name} is set here and read from a file too",
            fix=f"remove one; secret_env (line {span.line}) keeps the value out of the bundle",
            label="would win",
            related=(Label(span=span, text="read from a file"),),
        )
