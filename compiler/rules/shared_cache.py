"""Workers that share a cache compute the same KV.

LMCache keys KV by the model's name, the number of ranks and the tokens. Of two groups of workers at
one cache server, or at one store that both reach, each is given what the other has left: with
another revision, other weights or another form of the KV its answers are wrong, or nothing fits.

Accepted:
    name: shared
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    workers:
      - {role: aggregated, gpus: [0], engine_args: {quantization: fp8}}
      - {role: aggregated, gpus: [1], lmcache: false}

Rejected:
    name: shared
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    workers:
      - {role: aggregated, gpus: [0], engine_args: {quantization: fp8}}
      - {role: aggregated, gpus: [1]}

Source: lmcache 0.5.3 and 0.5.6 v1/multiprocess/custom_types.py, the keys' model_name, world_size,
worker_id, token_ids and cache_salt, and the server's layout_desc_registry, one form for a model and
a number of ranks; 0.3.7 to 0.5.6 utils.py, CacheEngineKey.
"""

from __future__ import annotations

from collections.abc import Iterator

from compiler.diagnostic import Diagnostic, Label, Rule, Severity
from compiler.model.config import ModelConfig
from compiler.resolve.pairing import Factor, factors
from compiler.resolve.tiers import spec_of
from compiler.stacks.stack import Stack
from compiler.topology import CacheMode, Topology, TopologyKind, WorkerGroup

RULE = Rule(
    "shared-cache",
    Severity.ERROR,
    "LMCache keys KV by the model's name, the number of ranks and the tokens alone",
)
_NEEDED = (
    "dtype",
    "kv_cache_dtype",
    "speculative_config",
    "quantization",
    "hf_overrides",
    "revision",
)


def check(topology: Topology, stack: Stack, model: ModelConfig | None) -> Iterator[Diagnostic]:
    """Report the first difference of each group from an earlier one whose KV it can be given."""
    if topology.accelerator.value not in stack.platforms or not _is_shared(topology, stack):
        return
    # Of each number of ranks two that differ: any other differs from one of them, or is alike.
    kept: dict[int, list[tuple[WorkerGroup, dict[str, Factor]]]] = {}
    for group in topology.caching:
        ours = _factors(topology, stack, group, model)
        earlier = kept.setdefault(group.tensor_parallel_size, [])
        unlike = [(other, theirs) for other, theirs in earlier if _difference(ours, theirs)]
        for other, theirs in unlike[:1]:
            name = _difference(ours, theirs)
            yield _differing(group, ours[name], other, theirs[name])
        if len(unlike) == len(earlier) < 2:
            earlier.append((group, ours))


def _difference(ours: dict[str, Factor], theirs: dict[str, Factor]) -> str:
    """Return the first thing in which two groups differ; empty where they are alike."""
    return next((name for name in ours if ours[name].value != theirs[name].value), "")


def _is_shared(topology: Topology, stack: Stack) -> bool:
    """Return whether groups reach each other's KV; pairing compares prefill and decode."""
    if topology.kind is TopologyKind.DISAGG:
        return False
    forms = (spec_of(tier, topology, stack) for tier in topology.lmcache.tiers)
    reaches_all = any(form is not None and form.shared for form in forms)
    return topology.lmcache.mode is CacheMode.MULTIPROCESS or reaches_all


def _factors(
    topology: Topology, stack: Stack, group: WorkerGroup, model: ModelConfig | None
) -> dict[str, Factor]:
    found = {one.name: one for one in factors(topology, stack, group, model)}
    return {name: found[name] for name in _NEEDED}


def _differing(group: WorkerGroup, ours: Factor, other: WorkerGroup, theirs: Factor) -> Diagnostic:
    return RULE.at(
        group.origin.of(*ours.at),
        f"workers at one cache differ in {ours.name}: {ours.value} and {theirs.value}",
        fix=f"write the same {ours.name} in both engine_args, write lmcache: false for one of "
        "them, or give each a profile of its own",
        related=(Label(span=other.origin.of(*theirs.at), text=f"{theirs.value} here"),),
    )
