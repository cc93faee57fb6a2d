"""A chunk of a model with states is one block, as a state is kept where a step of the engine ends.

That is a prompt's last whole block, wherever in a chunk it lies; LMCache looks for a state at the
end of a chunk. With chunks of several blocks only those prompts hit whose last block ends one:
every second, fourth or, of 16 blocks, hardly any.

Accepted:
    name: chunks
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-Next-80B-A3B-Instruct}
    lmcache: {chunk_size: 544}
    workers:
      - role: aggregated
        gpus: [0]
        engine_args: {enable_prefix_caching: true, attention_backend: FLASH_ATTN}

Rejected:
    name: chunks
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-Next-80B-A3B-Instruct}
    lmcache: {chunk_size: 544}
    workers:
      - role: aggregated
        gpus: [0, 1, 2, 3]
        tensor_parallel_size: 4
        engine_args: {enable_prefix_caching: true, attention_backend: FLASH_ATTN}

Source: lmcache 0.5.6 v1/multiprocess/modules/lmcache_driven_transfer.py, all_null_chunk_masks; run
on an H100 with blocks of 16 in chunks of 256, where no prompt of 8 hit (benchmarks/gpu.md, shared
beginnings of prompts).
"""

from __future__ import annotations

from collections.abc import Iterator

from compiler.diagnostic import Diagnostic, Label, Rule, Severity
from compiler.model.config import ModelConfig
from compiler.resolve.blocks import LEAST_CHUNK, block_of, is_one_block_a_chunk
from compiler.stacks.stack import Stack
from compiler.topology import CacheMode, Topology

RULE = Rule(
    "chunk-of-several-blocks",
    Severity.ERROR,
    "a state is kept at a prompt's last whole block, and looked for at the end of a chunk",
)


def check(topology: Topology, stack: Stack, model: ModelConfig | None) -> Iterator[Diagnostic]:
    """Report a chunk of several blocks, once."""
    platform, chunk = stack.platforms.get(topology.accelerator.value), topology.lmcache.chunk_size
    if platform is None or topology.lmcache.mode is not CacheMode.MULTIPROCESS:
        return
    blocks = [(group, block_of(group, platform, model)) for group in topology.caching]
    largest = max((block.tokens for _, block in blocks if block is not None), default=0)
    for group, block in blocks:
        if block is None or chunk % block.tokens or chunk == block.tokens:
            continue  # unknown, cut (chunk-size-alignment), or as it should be
        if not is_one_block_a_chunk(group, block, stack, model):
            continue
        is_written = topology.lmcache.origin.wrote("chunk_size")
        grows = block.tokens < max(largest, LEAST_CHUNK)
        yield RULE.at(
            topology.lmcache.origin.of("chunk_size") if is_written else group.origin.of("role"),
            f"chunk_size {chunk} is {chunk // block.tokens} blocks of {block.tokens} tokens, and "
            f"{topology.model.id} has layers with a state: one prompt of {chunk // block.tokens} "
            "is found again",
            fix=f"write engine_args: {{block_size: {chunk}}} for these workers"
            if grows
            else f"write lmcache.chunk_size: {block.tokens}",
            related=()
            if len(blocks) == 1
            else (Label(span=group.origin.of("role"), text=f"blocks of {block.tokens} tokens"),),
        )
        return
