"""A chunk size outside of 128 to 1024 tokens is one that was meant.

Small chunks hit more of a varied prompt and cost more look-ups; large ones cost fewer and lose more
of a prompt's end. 128 to 256 tokens suit varied prompts, 512 to 1024 repetitive ones. Within that
range nothing is said: `dync check --explain-memory` gives the figures for every profile.

Accepted:
    name: chunks
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    lmcache: {chunk_size: 512}
    workers: [{role: aggregated, gpus: [0]}]

Reported:
    name: chunks
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    lmcache: {chunk_size: 4096}
    workers: [{role: aggregated, gpus: [0]}]

Source: NVIDIA Dynamo's page on LMCache, LMCACHE_CHUNK_SIZE.
"""

from __future__ import annotations

from collections.abc import Iterator

from compiler.byte_units import byte_text
from compiler.diagnostic import Diagnostic, Rule, Severity
from compiler.model.config import ModelConfig
from compiler.model.layers import Unknown
from compiler.resolve.blocks import LEAST_CHUNK, block_of, split_of
from compiler.stacks.stack import Platform, Stack
from compiler.topology import Topology

RULE = Rule(
    "chunk-size-advice",
    Severity.INFO,
    "128 to 256 tokens suit varied prompts, 512 to 1024 repetitive ones",
)
MOST = 1024


def check(topology: Topology, stack: Stack, model: ModelConfig | None) -> Iterator[Diagnostic]:
    """Report a chunk size outside the range, with what it means for this model."""
    cache = topology.lmcache
    if not cache.enabled or LEAST_CHUNK <= cache.chunk_size <= MOST:
        return
    caching = topology.caching
    platform = stack.platforms.get(topology.accelerator.value)
    if platform is None or not caching:
        return
    blocks = [block_of(group, platform, model) for group in caching]
    if any(block is None or cache.chunk_size % block.tokens for block in blocks):
        return  # it has to change anyway (chunk-size-alignment), or nothing is known of it
    most = max(MOST, *(block.tokens for block in blocks if block is not None))
    if LEAST_CHUNK <= cache.chunk_size <= most:
        return  # a block of this model is as large
    is_small = cache.chunk_size < LEAST_CHUNK
    costs = "many look-ups a prompt" if is_small else "much of a prompt's end is computed again"
    facts = "; ".join(
        (f"chunk_size {cache.chunk_size}: {costs}", *_figures(topology, platform, model))
    )
    yield RULE.at(
        cache.origin.of("chunk_size"),
        facts,
        fix=f"write chunk_size: {LEAST_CHUNK if is_small else most}, or keep what you measured",
    )


def _figures(topology: Topology, platform: Platform, model: ModelConfig | None) -> Iterator[str]:
    """Return a chunk's bytes and the chunks of the longest prompt, as far as they are known."""
    chunk = topology.lmcache.chunk_size
    longest = topology.model.max_len or (model.max_len if model else None)
    if model is not None and model.shape is not None:
        group = topology.caching[0]
        try:
            token = split_of(group, model.shape, platform).cached_bytes(topology.lmcache.mode)
        except Unknown:
            token = 0
        if token:
            yield f"{byte_text(token * chunk)} a chunk"
    if longest is not None and longest >= chunk:
        yield f"{longest // chunk:,} chunks for a prompt of {longest:,} tokens"
