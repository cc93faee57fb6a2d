"""Prefill and decode agree on all that NIXL compares or copies.

NIXL hashes model, dtype, cache dtype and more when a decode worker first meets a prefill worker,
and copies whole blocks: a difference starts well on both sides and fails every request, or gives
wrong answers.

Accepted:
    name: pair
    stack: vllm-0.32
    topology: disagg
    model: {id: Qwen/Qwen3-0.6B}
    workers:
      - {role: prefill, gpus: [0, 1], tensor_parallel_size: 2, engine_args: {block_size: 32}}
      - {role: decode, gpus: [2, 3, 4, 5], tensor_parallel_size: 4, engine_args: {block_size: 32}}

Rejected:
    name: pair
    stack: vllm-0.32
    topology: disagg
    model: {id: Qwen/Qwen3-0.6B}
    workers:
      - {role: prefill, gpus: [0], engine_args: {block_size: 32}}
      - {role: decode, gpus: [1]}

Source: vLLM 0.25.1 and 0.32.0 v1/nixl/metadata.py, compute_nixl_compatibility_hash; base_worker.py,
_validate_remote_agent_handshake; kv_connector/utils.py, tp_ratio. On an H100 both sides started and
requests failed with NIXL_ERR_NOT_FOUND.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from compiler.diagnostic import Diagnostic, Label, Rule, Severity
from compiler.model.config import ModelConfig
from compiler.resolve.pairing import LAYOUT, Agreement, Factor, factors
from compiler.stacks.stack import Stack
from compiler.topology import Role, Topology, TopologyKind, WorkerGroup

RULE = Rule("pairing", Severity.ERROR)
_WHY = {
    Agreement.HASHED: "NIXL refuses a side whose hash differs, at the first request",
    Agreement.COPIED: "blocks are copied as they lie, and the first request finds out",
    Agreement.SPLIT: "a decode rank reads whole ranks of prefill, or the heads of a part of one",
    Agreement.WEIGHTS: "decode would go on with KV of another model, and nothing says so",
}
# Layouts that keep a head's tokens together: 0.32.0 v1/kv_cache_layout.py, is_block_contiguous.
_SPLITTABLE = ("LBHNC", "BLHNC")

_MAY_DIFFER = {"hf_overrides", "revision"}  # nothing breaks, and answers may be wrong


def check(topology: Topology, stack: Stack, model: ModelConfig | None) -> Iterator[Diagnostic]:
    """Report each decode group that differs from a prefill group, all differences together."""
    if topology.kind is not TopologyKind.DISAGG:
        return
    prefill, decode = _of(topology, Role.PREFILL), _of(topology, Role.DECODE)
    pairs = [(prefill[0], group) for group in decode]
    pairs += [(group, decode[0]) for group in prefill[1:]]
    if topology.accelerator.value in stack.platforms:
        for first, second in pairs:
            yield from _compare(topology, stack, model, first, second)


def _compare(
    topology: Topology,
    stack: Stack,
    model: ModelConfig | None,
    prefill: WorkerGroup,
    decode: WorkerGroup,
) -> Iterator[Diagnostic]:
    sides = zip(
        factors(topology, stack, prefill, model),
        factors(topology, stack, decode, model),
        strict=True,
    )
    pairs = list(sides)
    differing = [(ours, theirs) for ours, theirs in pairs if ours.value != theirs.value]
    differing += _ranks(prefill, decode, stack, model, {one.name: one for one, _ in pairs})
    if not differing:
        return
    labels = [
        Label(span=group.origin.of(*factor.at), text=f"{group.role.value}: {factor.value}")
        for ours, theirs in differing
        for group, factor in ((decode, theirs), (prefill, ours))
    ]
    names = [ours.name for ours, _ in differing]
    alike = ", ".join(ours.name for ours, _ in pairs if ours.name not in names)
    yield RULE.at(
        labels[0].span,
        f"prefill and decode do not fit in {', '.join(names)}",
        fix=_fix(differing[0][0]),
        label=labels[0].text,
        related=tuple(dict.fromkeys(labels[1:])),
        severity=None if set(names) - _MAY_DIFFER else Severity.WARNING,
        why=_WHY[min((ours.agreement for ours, _ in differing), key=list(Agreement).index)],
        table=(
            (
                "",
                *(
                    f"{group.role.value}, line {group.origin.span.line}"
                    for group in (prefill, decode)
                ),
            ),
            *(
                (ours.name, ours.value, theirs.value, ours.agreement.value)
                for ours, theirs in differing
            ),
            ("alike:", alike),
        ),
    )


def _ranks(
    prefill: WorkerGroup,
    decode: WorkerGroup,
    stack: Stack,
    model: ModelConfig | None,
    given: dict[str, Factor],
) -> list[tuple[Factor, Factor]]:
    """Return what does not fit where the sides split a model into different numbers of parts."""
    ours, theirs = prefill.tensor_parallel_size, decode.tensor_parallel_size
    is_split = model is None or not model.is_latent
    repeats = model is not None and model.kv_heads is not None and ours > model.kv_heads
    if ours == theirs:
        return []
    is_wide = ours > theirs and ((is_split and repeats) or not stack.pairing.wider_prefill)
    if max(ours, theirs) % min(ours, theirs) or is_wide:
        return [(_split(prefill), _split(decode))]
    layout = given.get(LAYOUT)
    if is_split and layout is not None and layout.value not in _SPLITTABLE:
        layout = dataclasses.replace(layout, agreement=Agreement.SPLIT)
        return [(layout, layout), (_split(prefill), _split(decode))]
    return []


def _split(group: WorkerGroup) -> Factor:
    return Factor(
        name="tensor_parallel_size",
        value=str(group.tensor_parallel_size),
        agreement=Agreement.SPLIT,
        at=("tensor_parallel_size",),
    )


def _fix(prefill: Factor) -> str:
    if prefill.name == "tensor_parallel_size":
        return f"write tensor_parallel_size: {prefill.value} for both, with as many gpus"
    place, *name = map(str, prefill.at)
    if prefill.agreement is Agreement.SPLIT:
        return f"remove {name[0]} from both {place}, or write LBHNC"
    return f"write the same {'.'.join(name)} in both {place}, or remove it from both"


def _of(topology: Topology, role: Role) -> list[WorkerGroup]:
    return [group for group in topology.workers if group.role is role]
