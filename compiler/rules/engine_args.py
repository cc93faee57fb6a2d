"""Every engine argument is one that the stack's vLLM takes, with a value it accepts.

vLLM's own parser says so only after importing torch, and some mistakes only after the model loads.

Accepted:
    name: args
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    workers: [{role: aggregated, gpus: [0], engine_args: {max_num_seqs: 64}}]

Rejected:
    name: args
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    workers: [{role: aggregated, gpus: [0], engine_args: {max_num_seq: 64}}]

Source: the catalogue schemas/stacks/<stack>/vllm.json, generated from the released package.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping

from compiler.diagnostic import Diagnostic, Rule, Severity, Suggestions
from compiler.document import Json
from compiler.load.secrets import masked
from compiler.stacks.stack import Option, Stack
from compiler.topology import Topology, WorkerGroup
from compiler.validate.schema import TYPE_WORDS

RULE = Rule(
    "engine-args", Severity.ERROR, "the engine refuses it after a long start, or ignores it"
)
_HOLDS = {
    "at_least": operator.ge,
    "more_than": operator.gt,
    "at_most": operator.le,
    "less_than": operator.lt,
}


def check(topology: Topology, stack: Stack) -> Iterator[Diagnostic]:
    """Report owned, unknown, ill-typed and deprecated arguments."""
    suggestions = Suggestions()
    for group in topology.workers:
        for name, value in group.engine_args.items():
            yield from _check_one(group, name, value, stack, suggestions)


def _check_one(
    group: WorkerGroup, name: str, value: Json, stack: Stack, suggestions: Suggestions
) -> Iterator[Diagnostic]:
    key, span = group.origin.key("engine_args", name), group.origin.of("engine_args", name)
    vllm = f"vLLM {stack.versions['vllm']}"
    if name in stack.owned_engine_args:
        place = stack.owned_engine_args[name]
        message = f"{name} is written by dync itself"
        yield RULE.at(key, message, fix=f"remove it; it follows from {place}")
        return
    option = stack.engine_options.get(name)
    if option is None:
        near = suggestions.of(name.replace("-", "_").lstrip("_"), stack.engine_options)
        yield RULE.at(
            key,
            f"stack {stack.name} ({vllm}) has no engine option {name!r}",
            fix=f"write {near}" if near else f"remove it (dync stack show {stack.name} lists them)",
            label=f"did you mean {near}?" if near else "",
        )
        return
    wrong = _wrong(name, value, option, suggestions)
    if wrong:
        message, fix = wrong
        yield RULE.at(span, message, fix=fix)
    elif option.deprecated:
        yield RULE.at(
            key,
            f"{name} is deprecated in {vllm}",
            fix=option.replaced_by or "remove it",
            why=f"a later vLLM will refuse it: {option.deprecated}",
            severity=Severity.WARNING,
        )


def _wrong(
    name: str, value: Json, option: Option, suggestions: Suggestions
) -> tuple[str, str] | None:
    """Return message and fix for a value that the option does not take."""
    if value is None and not option.nullable:
        return f"{name} has no value", f"write a value, or remove {name}"
    if isinstance(value, list) and option.repeat and len(value) > 1:
        return (
            f"{name} has {len(value)} values, but an engine file can give it only once",
            f"write one value: {name}: {value[0]}",
        )
    if option.json == "array":  # of text, in all stacks; the catalogue only sees json.loads
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return None
        return f"{name} is not a list of text", f'write a list: {name}: ["*"]'
    items = value if isinstance(value, list) and option.many else [value]
    for item in items:
        if item is None:
            continue
        kind = _kind(item)
        if not any(_fits(kind, wanted) for wanted in option.types):
            wanted = " or ".join(TYPE_WORDS[wanted] for wanted in option.types)
            return f"{name} is {TYPE_WORDS[kind]}, {shown(item)}, expected {wanted}", _type_fix(
                name, item, option
            )
        if option.choices and item not in option.choices:
            known = [str(choice) for choice in option.choices]
            near = suggestions.of(str(item), known)
            return (
                f"{name} {shown(item)} is not one of {', '.join(known)}",
                f"write {name}: {near or known[0]}",
            )
        if isinstance(item, (int, float)) and _is_outside(item, option.bounds):
            return (
                f"{name} {shown(item)} is not {_in_words(option.bounds)}",
                f"write {name}: {_nearest(item, option)}",
            )
        if isinstance(item, str) and item.startswith("-"):
            return (
                f"{name} {shown(item)} begins with a hyphen: "
                "vLLM's parser would take it for an option",
                "write a value that does not begin with a hyphen",
            )
    return None


def _in_words(bounds: Mapping[str, float]) -> str:
    return " and ".join(f"{word.replace('_', ' ')} {limit:g}" for word, limit in bounds.items())


def _is_outside(value: float, bounds: Mapping[str, float]) -> bool:
    return any(not _HOLDS[word](value, limit) for word, limit in bounds.items())


def _nearest(value: float, option: Option) -> Json:
    """Return a number within the bounds, near to one that is not."""
    bounds = option.bounds
    low = bounds.get("at_least", bounds.get("more_than", 0))
    if value <= low:
        return low if "at_least" in bounds else 1 if "integer" in option.types else 0.5
    return bounds.get("at_most", 0.5)


def _kind(value: Json) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


def _fits(kind: str, wanted: str) -> bool:
    return kind == wanted or (kind == "integer" and wanted == "number")


def shown(value: Json) -> str:
    """Write a value as the profile does, shortened."""
    whole = masked(value) if isinstance(value, str) else value
    text = repr(whole).lower() if isinstance(value, bool) else repr(whole)
    return text if len(text) <= 40 else text[:37] + "..."


def _type_fix(name: str, value: Json, option: Option) -> str:
    if isinstance(value, list):
        return f"{name} takes one value: write {name}: {value[0] if value else '...'}"
    if isinstance(value, str) and value.replace(".", "", 1).isdigit():
        return f"remove the quotes: {name}: {value}"
    if option.types == ("boolean",):
        return f"write {name}: true or {name}: false"
    if "string" in option.types and not isinstance(value, (list, dict)):
        return f'quote it: {name}: "{shown(value)}"'
    return f"write {name} as {' or '.join(TYPE_WORDS[kind] for kind in option.types)}"
