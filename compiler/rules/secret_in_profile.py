"""No secret stands in a profile: everything that is made of it can be read by everybody.

A variable of a worker lands in its script, its unit and in plan.json. Files keep secrets:
api_key_file, password_file of a tier, and /etc/dync/NAME/environment, which root alone reads and
into which `dync install --pass HF_TOKEN` writes. `dync up` hands on HF_TOKEN of its own shell.

Accepted:
    name: secret
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    workers: [{role: aggregated, gpus: [0], env: {HF_TOKEN_PATH: /etc/dync/hf-token}}]

Reported:
    name: secret
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    workers: [{role: aggregated, gpus: [0], env: {HF_TOKEN: hf_abc}}]

Source: this compiler's own choice: a bundle holds no secret (docs/design/plan.md).
"""

from __future__ import annotations

from collections.abc import Iterator

from compiler.diagnostic import Diagnostic, Rule, Severity
from compiler.load.secrets import is_hidden, is_secret
from compiler.topology import Topology

RULE = Rule(
    "secret-in-profile",
    Severity.WARNING,
    "the profile, and scripts, units and plan.json made of it, can be read by everybody",
)


def check(topology: Topology) -> Iterator[Diagnostic]:
    """Report variables that by their names hold a secret."""
    for group in topology.workers:
        for name, value in group.env.items():
            if is_secret(name) and is_hidden(value):
                yield RULE.at(
                    group.origin.key("env", name),
                    f"the value of {name} looks like a secret",
                    fix=_fix(name, topology.name),
                )


def _fix(name: str, deployment: str) -> str:
    """Name the way out: a key of the profile or an option that takes it, else the unit's file."""
    if name == "HF_TOKEN":
        return f"remove it: dync up hands on your shell's own, dync install with --pass {name}"
    if name.startswith("LMCACHE_") and name.endswith("_PASSWORD"):
        return "remove it, and write password_file in its tier (lmcache.tiers)"
    if name.startswith("VLLM_") and name.endswith("API_KEY"):
        return "remove it, and write frontend.api_key_file"
    file = f"/etc/dync/{deployment}/environment"
    return f"remove it, and after dync install write {name}=... into {file}, which root alone reads"
