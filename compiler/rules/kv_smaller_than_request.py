"""The room for KV that a profile fixes holds one request of full length.

vLLM finds out after it has loaded the model. Where the room follows from a GPU, only the host can
tell: `dync check --explain-memory` gives the figures for several cards.

Accepted:
    name: room
    stack: vllm-0.32
    topology: agg
    accelerator: cpu
    model: {id: Qwen/Qwen3-0.6B, max_len: 8192}
    workers: [{role: aggregated, env: {VLLM_CPU_KVCACHE_SPACE: 1}}]

Rejected:
    name: room
    stack: vllm-0.32
    topology: agg
    accelerator: cpu
    model: {id: Qwen/Qwen3-0.6B}
    workers: [{role: aggregated, env: {VLLM_CPU_KVCACHE_SPACE: 1}}]

Source: vLLM 0.11.0 to 0.32.0 v1/core/kv_cache_utils.py: "To serve at least one request with the
model's max seq len … larger than the available KV cache memory".
"""

from __future__ import annotations

from collections.abc import Iterator

from compiler.byte_units import byte_text
from compiler.diagnostic import Diagnostic, Label, Rule, Severity
from compiler.model.config import ModelConfig
from compiler.model.kv_shape import fixed_room
from compiler.model.layers import Unknown
from compiler.resolve.blocks import split_of
from compiler.stacks.stack import Stack
from compiler.topology import Topology, WorkerGroup

RULE = Rule(
    "kv-smaller-than-request",
    Severity.ERROR,
    "the engine ends once it has loaded the model, unless a request of full length has room",
)


def check(topology: Topology, stack: Stack, model: ModelConfig | None) -> Iterator[Diagnostic]:
    """Report each group whose room is fixed and too small."""
    platform = stack.platforms.get(topology.accelerator.value)
    longest = topology.model.max_len or (model.max_len if model else None)
    if platform is None or model is None or model.shape is None or longest is None:
        return
    if not model.shape.grows:
        return
    for group in topology.workers:
        room = fixed_room(topology.accelerator, group.env, group.engine_args)
        try:
            value = model.shape.value_bytes(group.engine_args)
            size = split_of(group, model.shape, platform).block_tokens
        except Unknown:
            continue
        token = model.shape.rank_bytes(group.tensor_parallel_size, value)
        needed = -(-longest // size) * size * token  # whole blocks
        if room is None or _is_spread(group) or needed <= room:
            continue
        key = ("env", "VLLM_CPU_KVCACHE_SPACE")
        at = key if key[1] in group.env else ("engine_args", "kv_cache_memory_bytes")
        length = Label(span=topology.model.origin.of("max_len"), text=f"{longest} tokens")
        yield RULE.at(
            group.origin.of(*at),
            f"{at[1]} is {byte_text(room)}, and a request of {longest} tokens needs "
            f"{byte_text(needed)}",
            fix=f"write model.max_len: {room // (token * size) * size}, or give more room",
            related=(length,) if topology.model.origin.wrote("max_len") else (),
        )


def _is_spread(group: WorkerGroup) -> bool:
    """Return whether a token's KV is spread over ranks, so that one of them holds less."""
    return group.engine_args.get("decode_context_parallel_size", 1) != 1
