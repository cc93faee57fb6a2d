"""A cache server takes all groups that the engine keeps a model's KV in.

Where layers differ in what they keep, vLLM keeps them in groups with blocks of their own. Of a
worker on a CPU LMCache's server takes one group: with several the engine ends after it has loaded
the model. On GPUs it takes them all.

Accepted:
    name: groups
    stack: vllm-0.32
    topology: agg
    accelerator: cpu
    model: {id: google/gemma-3-1b-it}
    lmcache: {enabled: false}
    workers: [{role: aggregated}]

Rejected:
    name: groups
    stack: vllm-0.32
    topology: agg
    accelerator: cpu
    model: {id: google/gemma-3-1b-it}
    workers: [{role: aggregated}]

Source: lmcache 0.5.6 v1/multiprocess/transfer_context/worker_transfer.py, "engine-driven transfer
does not support multiple KV transfer groups now"; run on a CPU with vLLM 0.32.0.
"""

from __future__ import annotations

from collections.abc import Iterator

from compiler.diagnostic import Diagnostic, Rule, Severity
from compiler.model.config import ModelConfig
from compiler.stacks.stack import Stack
from compiler.topology import CacheMode, Topology

RULE = Rule(
    "kv-groups",
    Severity.ERROR,
    "LMCache's server takes one group of layers here, and the engine dies after it has loaded",
)


def check(topology: Topology, stack: Stack, model: ModelConfig | None) -> Iterator[Diagnostic]:
    """Report a model of several groups beside a server that takes one."""
    platform = stack.platforms.get(topology.accelerator.value)
    if model is None or platform is None or not platform.one_kv_group:
        return
    if topology.lmcache.mode is CacheMode.MULTIPROCESS and topology.caching:
        kinds = "a state" if model.keeps_state else "a window" if model.has_windows else ""
        if kinds:
            yield RULE.at(
                topology.model.origin.of("id"),
                f"{topology.model.id} has layers with {kinds} and others, which a cache server "
                f"does not take from workers with accelerator {topology.accelerator.value}",
                fix="write lmcache.enabled: false",
            )
