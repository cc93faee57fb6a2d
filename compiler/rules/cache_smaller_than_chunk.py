"""The cache has room for at least one chunk of this model.

A cache that is smaller starts, and never stores anything.

Accepted:
    name: room
    stack: vllm-0.32
    topology: agg
    model: {id: meta-llama/Llama-3.1-70B}
    lmcache: {cpu_cache_gb: 20}
    workers: [{role: aggregated, gpus: [0, 1, 2, 3], tensor_parallel_size: 4}]

Rejected:
    name: room
    stack: vllm-0.32
    topology: agg
    model: {id: meta-llama/Llama-3.1-70B}
    lmcache: {cpu_cache_gb: 0.05}
    workers: [{role: aggregated, gpus: [0, 1, 2, 3], tensor_parallel_size: 4}]

Source: lmcache 0.5.6 v1/storage_backend/local_cpu_backend.py, allocation in whole chunks;
compiler/model/block_size.py for a chunk's bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from compiler.byte_units import GIB, byte_text
from compiler.diagnostic import Diagnostic, Label, Rule, Severity
from compiler.model.config import ModelConfig
from compiler.model.layers import Unknown
from compiler.resolve.blocks import split_of
from compiler.stacks.stack import Stack
from compiler.topology import Topology

RULE = Rule(
    "cache-smaller-than-chunk",
    Severity.ERROR,
    "LMCache keeps whole chunks, so a cache smaller than one never stores anything",
)


def check(topology: Topology, stack: Stack, model: ModelConfig | None) -> Iterator[Diagnostic]:
    """Report a cache of some group that cannot hold one chunk."""
    cache, total = topology.lmcache, int(topology.lmcache.cpu_cache_gb * GIB)
    platform = stack.platforms.get(topology.accelerator.value)
    if model is None or model.shape is None or platform is None:
        return
    for group in topology.workers:
        if not topology.uses_lmcache(group):
            continue
        try:
            split = split_of(group, model.shape, platform)
            needed = split.cached_bytes(cache.mode) * cache.chunk_size
        except Unknown:
            continue
        if needed > total:
            chunk = Label(span=cache.origin.of("chunk_size"), text=f"{byte_text(needed)} a chunk")
            yield RULE.at(
                cache.origin.of("cpu_cache_gb"),
                f"cpu_cache_gb {cache.cpu_cache_gb:g} is less than a chunk of {topology.model.id}",
                fix=f"write cpu_cache_gb: {math.ceil(needed / GIB * 10) / 10:g} or more",
                related=(chunk,) if cache.origin.wrote("chunk_size") else (),
            )
            return
