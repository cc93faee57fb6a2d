"""The stack runs this combination rightly.

A stack lists the combinations of its releases that are refused, need a setting, or have a limit:
those that give wrong output or never cache while every health check is green.

Accepted:
    name: cpu
    stack: vllm-0.32
    topology: agg
    accelerator: cpu
    model: {id: Qwen/Qwen3-0.6B}
    workers: [{role: aggregated}]

Rejected:
    name: cpu
    stack: vllm-0.25
    topology: agg
    accelerator: cpu
    model: {id: Qwen/Qwen3-0.6B}
    workers: [{role: aggregated}]

Source: the `platforms` and `cases` of schemas/stacks/*.yaml, each with its own proof. A case that
holds is reported by its own id, which `dync explain` also knows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from compiler.diagnostic import Diagnostic, Rule, Severity
from compiler.document import Json
from compiler.resolve.conditions import applies
from compiler.stacks.placeholders import text_of
from compiler.stacks.stack import KnownIssue, Stack
from compiler.topology import Topology, WorkerGroup

RULE = Rule(
    "stack-case",
    Severity.ERROR,
    "a stack lists the accelerators for which it knows packages, flags and defaults",
)


def check(topology: Topology, stack: Stack) -> Iterator[Diagnostic]:
    """Report an accelerator the stack lacks, and each case that holds, once."""
    if topology.accelerator.value not in stack.platforms:
        yield RULE.at(
            topology.origin.of("accelerator"),
            f"stack {stack.name} has no form for accelerator {topology.accelerator.value}",
            fix=f"write accelerator: {' or '.join(stack.platforms)}, or choose another stack "
            "(dync stack list)",
        )
    for case in stack.cases:
        rule = Rule(case.id, Severity(case.severity), f"{case.why} ({case.proof}; {case.source})")
        groups = [group for group in topology.workers if _applies(case, topology, group)]
        if groups:
            yield rule.at(
                topology.origin.of(*case.at)
                if topology.origin.wrote(*case.at)
                else groups[0].origin.of("role"),
                in_words(case.message, groups[0].engine_args),
                fix=case.fix,
            )
        for group in groups:
            yield from _undone(case, rule, group)


def _undone(case: KnownIssue, rule: Rule, group: WorkerGroup) -> Iterator[Diagnostic]:
    """Report a worker's own variable that takes back what the case sets to be right."""
    for name, value in case.env.items():
        if group.env.get(name, value) != value:
            yield rule.at(
                group.origin.of("env", name),
                f"{name}={group.env[name]} takes back what makes this combination right",
                fix=f"remove it: dync sets {name}={value} here",
                severity=Severity.ERROR,
            )


def in_words(message: str, engine_args: Mapping[str, Json]) -> str:
    """Fill a case's message with what the worker was given."""
    tokens = engine_args.get("max_num_batched_tokens", "vLLM's default")
    return message.replace("{max_num_batched_tokens}", text_of(tokens))


def _applies(case: KnownIssue, topology: Topology, group: WorkerGroup) -> bool:
    return applies(case.when, topology, group, lmcache=topology.uses_lmcache(group))
