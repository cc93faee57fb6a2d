"""A tier holds more than the memory before it, and a restart leaves room in it.

LMCache writes each chunk to the host memory and to the tiers. What fits into the memory is never
read from a tier that is no larger, except after a restart.

Accepted:
    name: tiers
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    lmcache:
      cpu_cache_gb: 20
      tiers: [{disk: {path: /var/cache/kv, size_gb: 100, keep_gb: 50}}]
    workers: [{role: aggregated, gpus: [0]}]

Rejected:
    name: tiers
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    lmcache:
      cpu_cache_gb: 20
      tiers: [{disk: {path: /var/cache/kv, size_gb: 100, keep_gb: 100}}]
    workers: [{role: aggregated, gpus: [0]}]

Source: lmcache 0.5.6 v1/distributed/storage_controllers/store_controller.py;
v1/distributed/l2_adapters/native_connector_l2_adapter.py counts what this run stored;
nixl_store_agents/dynamic_nixl_store_agent.py, _init_mem_handlers (NIXL_ERR_NOT_FOUND, run).
"""

from __future__ import annotations

from collections.abc import Iterator

from compiler.diagnostic import Diagnostic, Label, Rule, Severity
from compiler.topology import CacheMode, TierChoice, Topology

RULE = Rule(
    "tier-size",
    Severity.ERROR,
    "LMCache counts only what this run has stored: the rest of size_gb is all that it may use",
)
GIB, PAGE = 1 << 30, 4096
_BY_NIXL = ("nixl", "gds")


def check(topology: Topology) -> Iterator[Diagnostic]:
    """Report tiers without room for a run, and tiers no larger than the host memory."""
    memory = topology.lmcache.cpu_cache_gb
    for tier in topology.lmcache.tiers:
        if tier.kind in _BY_NIXL and memory * GIB % PAGE and _is_served(topology):
            yield _part_of_a_page(topology, tier)
        size, keep = tier.options.get("size_gb"), tier.options.get("keep_gb")
        if not isinstance(size, (int, float)):
            continue
        if isinstance(keep, (int, float)) and keep >= size:
            yield RULE.at(
                tier.origin.of("keep_gb"),
                f"keep_gb {keep:g} leaves nothing of size_gb {size:g}",
                fix=f"write keep_gb: {size / 2:g}",
                related=(Label(span=tier.origin.of("size_gb"), text="all there is"),),
            )
        elif size <= memory:
            yield _small(topology, tier, size)


def _is_served(topology: Topology) -> bool:
    return topology.lmcache.mode is CacheMode.MULTIPROCESS


def _part_of_a_page(topology: Topology, tier: TierChoice) -> Diagnostic:
    memory = topology.lmcache.cpu_cache_gb
    whole = max(1, round(memory * 64)) / 64
    return RULE.at(
        topology.lmcache.origin.of("cpu_cache_gb"),
        f"cpu_cache_gb {memory:g} is no whole number of pages of {PAGE} bytes",
        fix=f"write cpu_cache_gb: {whole:g}",
        related=(Label(span=tier.origin.key(), text="a tier that NIXL writes"),),
        why="NIXL is given the memory page by page, "
        "and knows no page that is partly beyond its end",
    )


def _small(topology: Topology, tier: TierChoice, size: float) -> Diagnostic:
    memory = topology.lmcache.cpu_cache_gb
    return RULE.at(
        tier.origin.of("size_gb"),
        f"{size:g} GiB hold no more than the host memory of {memory:g} GiB before them",
        fix=f"write size_gb: {4 * memory:g}, or less cpu_cache_gb",
        related=(Label(span=topology.lmcache.origin.of("cpu_cache_gb"), text="host memory"),),
        why="every chunk goes to the host memory too, and is read from there while it is in it",
        severity=Severity.WARNING,
    )
