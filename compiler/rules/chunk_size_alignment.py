"""A chunk is a whole number of the engine's KV blocks.

LMCacheMPConnector stores whole blocks and kills the engine on another size, after the model has
loaded. In process nothing checks it, and the rest of a block is never reused.

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
a multiple of …"; run on CPU, found after 35 s.
"""

from __future__ import annotations

from collections.abc import Iterator

from compiler.diagnostic import Diagnostic, Label, Rule, Severity
from compiler.resolve.connectors import chunk_multiple
from compiler.stacks.stack import Stack
from compiler.topology import Topology

RULE = Rule(
    "chunk-size-alignment",
    Severity.ERROR,
    "LMCache stores whole KV blocks, so chunk_size must be a multiple of the engine's block size",
)


def check(topology: Topology, stack: Stack) -> Iterator[Diagnostic]:
    """Report a chunk_size that cuts a block of some caching worker."""
    platform = stack.platforms.get(topology.accelerator.value)
    chunk = topology.lmcache.chunk_size
    if platform is None or not topology.lmcache.enabled:
        return
    for group in topology.workers:
        multiple, what = chunk_multiple(group, platform)
        if not topology.uses_lmcache(group) or chunk % multiple == 0:
            continue
        below, above = chunk // multiple * multiple, (chunk // multiple + 1) * multiple
        choices = [f"chunk_size: {size}" for size in (below, above) if size]
        key = ("engine_args", "block_size") if "block_size" in group.engine_args else ("role",)
        block = Label(span=group.origin.of(*key), text=f"{multiple} tokens per block: {what}")
        is_default = not topology.lmcache.origin.wrote("chunk_size")
        yield RULE.at(
            block.span if is_default else topology.lmcache.origin.of("chunk_size"),
            f"chunk_size {chunk}{' (the default)' if is_default else ''} is not a whole number of "
            f"KV blocks of {multiple} tokens",
            fix=f"write lmcache.{' or '.join(choices)}",
            label=block.text if is_default else f"{chunk / multiple:.4g} blocks",
            related=() if is_default else (block,),
        )
        return
