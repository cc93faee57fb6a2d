"""A worker's environment has no name that dync owns, and no VLLM_* name that vLLM does not read.

vLLM only warns of an unknown VLLM_* variable, and LMCache says nothing at all.

Accepted:
    name: env
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    workers: [{role: aggregated, gpus: [0], env: {VLLM_LOGGING_LEVEL: DEBUG}}]

Rejected:
    name: env
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    workers: [{role: aggregated, gpus: [0], env: {VLLM_LOGING_LEVEL: DEBUG}}]

Source: vLLM 0.32.0 vllm/envs.py and platforms/interface.py validate_environ.
"""

from __future__ import annotations

from collections.abc import Iterator

from compiler.diagnostic import Diagnostic, Rule, Severity, Suggestions
from compiler.stacks.stack import Stack
from compiler.topology import Topology

RULE = Rule(
    "environment",
    Severity.ERROR,
    "a variable that nothing reads, or that the plan sets itself, changes nothing or too much",
)


def check(topology: Topology, stack: Stack) -> Iterator[Diagnostic]:
    """Report owned and unknown names in workers[].env."""
    suggestions = Suggestions()
    for group in topology.workers:
        for name in group.env:
            span = group.origin.key("env", name)
            if name in stack.owned_env:
                yield RULE.at(
                    span,
                    f"{name} is set by dync itself",
                    fix=f"remove it; it follows from {stack.owned_env[name]}",
                )
            elif name.startswith("DYNC_"):
                yield RULE.at(span, f"{name} is a mark of dync's own", fix="remove it")
            elif name.startswith("VLLM_") and name not in stack.environment_names:
                near = suggestions.of(name, stack.environment_names)
                yield RULE.at(
                    span,
                    f"vLLM {stack.versions['vllm']} reads no variable {name}",
                    fix=f"write {near}" if near else "remove it",
                    label=f"did you mean {near}?" if near else "",
                )
