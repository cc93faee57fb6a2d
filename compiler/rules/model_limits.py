"""The longest request and the split over GPUs are ones that the model allows.

vLLM compares both with the model's config.json when it builds its configuration, after it has
imported torch and fetched that file.

Accepted:
    name: limits
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-0.6B, max_len: 40960}
    workers: [{role: aggregated, gpus: [0, 1], tensor_parallel_size: 2}]

Rejected:
    name: limits
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-0.6B, max_len: 131072}
    workers: [{role: aggregated, gpus: [0, 1, 2], tensor_parallel_size: 3}]

Source: vLLM 0.32.0 config/model.py, _get_and_verify_max_len and verify_with_parallel_config, the
same in 0.11.0 to 0.31.0; dimensions from the model's config.json, with
hf_overrides applied.
"""

from __future__ import annotations

from collections.abc import Iterator

from compiler.diagnostic import Diagnostic, Rule, Severity
from compiler.model.config import ModelConfig
from compiler.stacks.stack import Stack
from compiler.topology import Topology, WorkerGroup

RULE = Rule(
    "model-limits",
    Severity.ERROR,
    "vLLM compares it with the model's config.json before it loads the model, and ends",
)


def check(topology: Topology, stack: Stack, model: ModelConfig | None) -> Iterator[Diagnostic]:  # noqa: ARG001
    """Report a max_len beyond the model's, and splits that its heads do not allow."""
    if model is None:
        return
    yield from _too_long(topology, model, topology.workers)
    heads = model.attention_heads
    for group in topology.workers:
        ranks = group.tensor_parallel_size
        if heads is not None and heads % ranks:
            fits = max(size for size in range(1, ranks) if heads % size == 0)
            yield RULE.at(
                group.origin.of("tensor_parallel_size"),
                f"{heads} attention heads cannot be divided over {ranks} GPUs",
                fix=f"write tensor_parallel_size: {fits}, with as many gpus",
            )


def _too_long(
    topology: Topology, model: ModelConfig, groups: tuple[WorkerGroup, ...]
) -> Iterator[Diagnostic]:
    asked, longest = topology.model.max_len, model.max_len
    held = [group for group in groups if group.env.get("VLLM_ALLOW_LONG_MAX_MODEL_LEN") != "1"]
    if held and asked is not None and longest is not None and asked > longest:
        yield RULE.at(
            topology.model.origin.of("max_len"),
            f"max_len {asked} is more than the {longest} tokens that {topology.model.id} has",
            fix=f"write max_len: {longest}",
        )
