"""A chunk is a whole number of the engine's KV blocks.

LMCacheMPConnector stores whole blocks and kills the engine on another size, after the model has
loaded. In process nothing checks it, and the rest of a block is never reused. The blocks of a model
with states are as large as a state: vLLM raises them when it has loaded the model, by its split
over GPUs, the dtype of its cache and speculation.

Accepted:
    name: chunks
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    lmcache: {chunk_size: 512}
    workers: [{role: aggregated, gpus: [0]}]

Rejected:
    name: chunks
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    lmcache: {chunk_size: 200}
    workers: [{role: aggregated, gpus: [0]}]

Source: lmcache 0.5.6 integration/vllm/vllm_multi_process_adapter.py, "LMCache chunk size … must be
a multiple of …"; run on CPU, found after 35 s. For models with states compiler/model/block_size.py,
which tests/engine/test_block_sizes.py holds against vLLM's own code.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from compiler.diagnostic import Diagnostic, Label, Rule, Severity
from compiler.model.config import ModelConfig
from compiler.resolve.blocks import LEAST_CHUNK, Block, block_of, is_one_block_a_chunk
from compiler.stacks.stack import Stack
from compiler.topology import CacheMode, Topology, WorkerGroup

RULE = Rule(
    "chunk-size-alignment",
    Severity.ERROR,
    "LMCache stores whole KV blocks, so chunk_size must be a multiple of the engine's block size",
)


def check(topology: Topology, stack: Stack, model: ModelConfig | None) -> Iterator[Diagnostic]:
    """Report a chunk_size that cuts a block of some caching worker."""
    platform = stack.platforms.get(topology.accelerator.value)
    chunk = topology.lmcache.chunk_size
    if platform is None or not topology.lmcache.enabled:
        return
    in_process = topology.lmcache.mode is CacheMode.IN_PROCESS  # holds no states: hybrid-model
    its = None if in_process else model
    blocks = [(group, block_of(group, platform, its)) for group in topology.caching]
    known = [(group, block) for group, block in blocks if block is not None]
    cut = [(group, block) for group, block in known if chunk % block.tokens]
    if cut:
        multiple = math.lcm(*(block.tokens for _, block in known))
        below, above = chunk // multiple * multiple, (chunk // multiple + 1) * multiple
        alone = any(is_one_block_a_chunk(*one, stack, its) for one in known)
        largest = max(block.tokens for _, block in known)
        sizes = (largest,) if alone and largest >= LEAST_CHUNK else (below, above)
        yield _finding(topology, *cut[0], sizes)


def _finding(
    topology: Topology, group: WorkerGroup, block: Block, sizes: Sequence[int]
) -> Diagnostic:
    """Say which worker's block is cut, and which sizes fit the blocks of all."""
    chunk = topology.lmcache.chunk_size
    choices = [f"chunk_size: {size}" for size in sizes if size]
    key = ("engine_args", "block_size") if "block_size" in group.engine_args else ("role",)
    label = Label(
        span=group.origin.of(*key), text=f"{block.tokens} tokens per block: {block.because}"
    )
    is_default = not topology.lmcache.origin.wrote("chunk_size")
    return RULE.at(
        label.span if is_default else topology.lmcache.origin.of("chunk_size"),
        f"chunk_size {chunk}{' (the default)' if is_default else ''} is not a whole number of "
        f"KV blocks of {block.tokens} tokens",
        fix=f"write lmcache.{' or '.join(choices)}",
        label=label.text if is_default else f"{chunk / block.tokens:.4g} blocks",
        related=() if is_default else (label,),
    )
