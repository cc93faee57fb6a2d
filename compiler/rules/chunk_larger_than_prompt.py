"""The longest request holds at least one chunk.

LMCache stores whole chunks: a prompt shorter than chunk_size is never stored, and nothing says so.

Accepted:
    name: short
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-0.6B, max_len: 2048}
    workers: [{role: aggregated, gpus: [0]}]

Rejected:
    name: short
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-0.6B, max_len: 256}
    workers: [{role: aggregated, gpus: [0]}]

Source: LMCache 0.5.6 docs, mp/disaggregated_prefill; seen as a hit rate of 0 with all healthy.
"""

from __future__ import annotations

from collections.abc import Iterator

from compiler.diagnostic import Diagnostic, Label, Rule, Severity
from compiler.topology import Topology

RULE = Rule(
    "chunk-larger-than-prompt",
    Severity.ERROR,
    "LMCache stores whole chunks, so a prompt shorter than chunk_size never hits",
)


def check(topology: Topology) -> Iterator[Diagnostic]:
    """Report a chunk_size that no request can fill."""
    longest, chunk = topology.model.max_len, topology.lmcache.chunk_size
    if not topology.lmcache.enabled or longest is None or chunk < longest:
        return
    longest_span = topology.model.origin.of("max_len")
    is_default = not topology.lmcache.origin.wrote("chunk_size")
    yield RULE.at(
        longest_span if is_default else topology.lmcache.origin.of("chunk_size"),
        f"chunk_size {chunk}{' (the default)' if is_default else ''} is not less than max_len "
        f"{longest}: nothing would ever be cached",
        fix="write a smaller lmcache.chunk_size or a larger max_len",
        related=() if is_default else (Label(span=longest_span, text="longest request"),),
    )
