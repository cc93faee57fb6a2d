"""Engine arguments that vLLM compares with each other fit together.

Its parser takes each one by itself. It finds out when it builds its configuration, after it has
imported torch, and ends.

Accepted:
    name: batch
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    workers:
      - {role: aggregated, gpus: [0], engine_args: {max_num_seqs: 64, max_num_batched_tokens: 2048}}

Rejected:
    name: batch
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    workers:
      - {role: aggregated, gpus: [0], engine_args: {max_num_seqs: 64, max_num_batched_tokens: 32}}

Source: schemas/engine_relations.yaml, which names the file of each and the releases that have it:
vLLM 0.11.0 to 0.32.0, config/ and engine/arg_utils.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

from compiler.diagnostic import Diagnostic, Label, Rule, Severity, Span
from compiler.document import Json
from compiler.resolve.connectors import connector_names
from compiler.rules.engine_args import shown
from compiler.stacks.relations import MAX_LEN, Relation
from compiler.stacks.stack import Stack
from compiler.stacks.when import ANY
from compiler.topology import Topology, WorkerGroup

RULE = Rule("engine-args-together", Severity.ERROR)


def check(topology: Topology, stack: Stack) -> Iterator[Diagnostic]:
    """Report each relation of the stack's vLLM that a group's engine_args break."""
    options = [(relation.at.partition(".")[0], relation) for relation in stack.relations]
    for group in topology.workers:
        for relation in (relation for option, relation in options if option in group.engine_args):
            value = _value(group.engine_args, relation.at)
            if value is not None and value is not False and _applies(relation, group):
                yield from _broken(relation, value, topology, group)
                yield from _beside(relation, topology, stack, group)


def _applies(relation: Relation, group: WorkerGroup) -> bool:
    return relation.when.matches(partial(_value, group.engine_args))


def _broken(
    relation: Relation, value: Json, topology: Topology, group: WorkerGroup
) -> Iterator[Diagnostic]:
    at = relation.at
    other = relation.at_most or relation.at_least
    bound, span = _other(other, topology, group)
    if isinstance(bound, (int, float)) and isinstance(value, (int, float)):
        is_broken = value > bound if relation.at_most else value < bound
        if is_broken:
            sign = "more" if relation.at_most else "less"
            yield _finding(
                relation,
                group,
                f"{at} {shown(value)} is {sign} than {other}, {shown(bound)}",
                f"write {at}: {shown(bound)}, or change {other}",
                Label(span=span, text=f"{other} is {shown(bound)}"),
            )
    for name in relation.needs.unmet(partial(_value, group.engine_args)):
        values = relation.needs.values[name]
        asked = name if ANY in values else f"{name}: {' or '.join(map(shown, values))}"
        yield _finding(relation, group, f"{at} needs {asked}", f"write {asked} too, or remove {at}")
    for name in relation.without:
        if _value(group.engine_args, name) not in (None, False):
            yield _finding(
                relation,
                group,
                f"{at} and {name} exclude each other",
                "remove one of them",
                Label(span=group.origin.key("engine_args", *name.split(".")), text="the other one"),
            )


def _beside(
    relation: Relation, topology: Topology, stack: Stack, group: WorkerGroup
) -> Iterator[Diagnostic]:
    """Report the first connector of the worker that the option does not go with."""
    for name in connector_names(topology, stack, group):
        if name in relation.not_beside or ANY in relation.not_beside:
            is_cache = topology.uses_lmcache(group) and "LMCache" in name
            off = "write lmcache: false for these workers" if is_cache else "write topology: agg"
            message = f"{relation.at} does not go with {name}, which these workers have"
            yield _finding(relation, group, message, f"remove {relation.at}, or {off}")
            return


def _finding(
    relation: Relation, group: WorkerGroup, message: str, fix: str, *related: Label
) -> Diagnostic:
    return RULE.at(
        group.origin.of("engine_args", *relation.at.split(".")),
        message,
        fix=fix,
        related=related,
        why=f'vLLM ends with "{relation.says.strip(" (")}" ({relation.source})',
    )


def _other(name: str, topology: Topology, group: WorkerGroup) -> tuple[Json, Span]:
    if name == MAX_LEN:
        return topology.model.max_len, topology.model.origin.of("max_len")
    return _value(group.engine_args, name), group.origin.of("engine_args", name)


def _value(engine_args: Mapping[str, Json], name: str) -> Json:
    """Return an option's value, or that of a key of it."""
    first, _, rest = name.partition(".")
    value = engine_args.get(first)
    return _value(value, rest) if rest and isinstance(value, dict) else None if rest else value
