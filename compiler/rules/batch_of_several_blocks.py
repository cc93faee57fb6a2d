"""Layers with a state keep it where a step of the engine ends, not at each block of the step.

A prompt that shares only its beginning with another then finds KV of attention and no state, and
is computed anew. LMCache 0.5.3 keeps layers of all kinds in one object, where a state that is not
there would be read as one, and refuses steps of several blocks. 0.5.6 keeps them apart, as dync
asks it to: what goes on from the end of an earlier prompt, as a conversation does, is found; a
beginning that different prompts share is found only where an earlier step ended.

Accepted:
    name: steps
    stack: vllm-0.25
    topology: agg
    model: {id: Qwen/Qwen3-Next-80B-A3B-Instruct}
    lmcache: {chunk_size: 544}
    workers:
      - role: aggregated
        gpus: [0]
        engine_args:
          enable_prefix_caching: true
          attention_backend: FLASH_ATTN
          max_num_batched_tokens: 1087

Rejected:
    name: steps
    stack: vllm-0.25
    topology: agg
    model: {id: Qwen/Qwen3-Next-80B-A3B-Instruct}
    lmcache: {chunk_size: 544}
    workers:
      - role: aggregated
        gpus: [0]
        engine_args:
          enable_prefix_caching: true
          attention_backend: FLASH_ATTN
          max_num_batched_tokens: 1088

Source: lmcache 0.5.3 integration/vllm/lmcache_mp_connector.py, validate_mamba_step_alignment;
0.5.6 the same, and v1/multiprocess/modules/lmcache_driven_transfer.py, all_null_chunk_masks; run on
an H100 (benchmarks/gpu.md, shared beginnings of prompts).
"""

from __future__ import annotations

from collections.abc import Iterator

from compiler.diagnostic import Diagnostic, Rule, Severity
from compiler.model.config import ModelConfig
from compiler.resolve.blocks import STEP_DEFAULTS, Block, asked_step, block_of, step_tokens
from compiler.stacks.stack import Stack
from compiler.topology import CacheMode, Topology, WorkerGroup

RULE = Rule(
    "batch-of-several-blocks",
    Severity.ERROR,
    "a state is kept where a step of the engine ends, and a step may have several blocks",
)
_NAME = "max_num_batched_tokens"
_LEAST_STEP = 512


def check(topology: Topology, stack: Stack, model: ModelConfig | None) -> Iterator[Diagnostic]:
    """Report each worker whose steps may hold several blocks of a model with states."""
    platform = stack.platforms.get(topology.accelerator.value)
    if platform is None or topology.lmcache.mode is not CacheMode.MULTIPROCESS:
        return
    if model is None or not model.keeps_state or not stack.connectors.steps_of_one_block:
        return
    for group in topology.caching:
        block = block_of(group, platform, model)
        if block is not None:
            yield from _wide(topology, stack, group, block)


def _wide(
    topology: Topology, stack: Stack, group: WorkerGroup, block: Block
) -> Iterator[Diagnostic]:
    asked, steps = asked_step(group), step_tokens(group)
    if steps < 2 * block.tokens:
        return
    id_ = topology.model.id
    told = f"{_NAME}, by default up to {steps}," if asked is None else f"{_NAME} {asked}"
    is_sure = asked is not None or STEP_DEFAULTS[0][0] >= 2 * block.tokens
    yield RULE.at(
        group.origin.of("engine_args", _NAME),
        f"{told} is more than one block: a block of {id_} has {block.tokens}",
        fix=f"write engine_args: {_one_block(block)}, or stack: vllm-0.32, which takes more",
        why=f"LMCache {stack.versions['lmcache']} refuses steps of two blocks or more, as it "
        "keeps a state of each",
        severity=None if is_sure else Severity.WARNING,
    )


def _one_block(block: Block) -> str:
    """Return the options for steps of one block, which is to be worth a step."""
    if block.tokens >= _LEAST_STEP:
        return f"{{{_NAME}: {block.tokens}}}"
    tokens = -(-_LEAST_STEP // block.tokens) * block.tokens
    return f"{{block_size: {tokens}, {_NAME}: {tokens}}}"
