"""A model whose layers differ in kind has connectors and settings that can carry its cache.

Layers with a state (Mamba, linear attention) need vLLM's hybrid KV cache manager. A connector
without it turns the manager off, and the engine dies after it has loaded the model. LMCache in a
server carries such layers only in the cache mode that prefix caching chooses, which is off by
default for these models.

Accepted:
    name: hybrid
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-Next-80B-A3B-Instruct}
    workers:
      - role: aggregated
        gpus: [0]
        engine_args: {enable_prefix_caching: true, attention_backend: FLASH_ATTN}

Rejected:
    name: hybrid
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-Next-80B-A3B-Instruct}
    workers: [{role: aggregated, gpus: [0], engine_args: {attention_backend: FLASH_ATTN}}]

Source: vLLM 0.32.0 config/vllm.py (disable_hybrid_kv_cache_manager), v1/core/kv_cache_utils.py
unify_hybrid_kv_cache_specs, config/model.py is_prefix_caching_supported, model_executor/models/
config.py MambaModelConfig; lmcache 0.5.6 integration/vllm/kv_cache_group_edits.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from compiler.diagnostic import Diagnostic, Rule, Severity
from compiler.model.config import ModelConfig
from compiler.resolve.connectors import loses_hybrid_manager
from compiler.stacks.stack import Stack
from compiler.topology import Accelerator, CacheMode, Topology

RULE = Rule("hybrid-model", Severity.ERROR)


def check(topology: Topology, stack: Stack, model: ModelConfig | None) -> Iterator[Diagnostic]:
    """Report a hybrid model without the manager or the cache mode that it needs."""
    if model is None or not (model.keeps_state or model.has_windows):
        return
    cache = topology.lmcache
    loses = loses_hybrid_manager(topology, stack)
    at = cache.origin.of("mode") if cache.origin.wrote("mode") else topology.model.origin.of("id")
    if topology.accelerator is Accelerator.CPU and model.keeps_state:
        yield RULE.at(
            topology.model.origin.of("id"),
            f"{topology.model.id} has layers with a state, which vLLM does not serve on a CPU",
            fix="choose a model of attention layers alone",
            why="vLLM has no hybrid KV cache manager on a CPU, and cannot unify states with KV",
        )
    elif loses and model.keeps_state:
        yield RULE.at(
            at,
            f"{topology.model.id} has layers with a state, which LMCache in process cannot carry",
            fix="write lmcache.mode: multiprocess, on a stack that has it",
            why="the connector turns the hybrid KV cache manager off, "
            "and the engine dies without it",
        )
    elif loses:
        yield RULE.at(
            at,
            f"{topology.model.id} has layers with a window, which keep whole prompts here",
            fix="write lmcache.mode: multiprocess where the stack has it, "
            "or expect less room for KV",
            why="the connector turns the hybrid KV cache manager off, "
            "so every layer keeps every token",
            severity=Severity.WARNING,
        )
    elif model.keeps_state and cache.mode is CacheMode.MULTIPROCESS:
        yield from _cache_mode(topology)


def _cache_mode(topology: Topology) -> Iterator[Diagnostic]:
    """Report workers whose states are not kept at block boundaries."""
    for group in topology.workers:
        if (
            topology.uses_lmcache(group)
            and group.engine_args.get("enable_prefix_caching") is not True
        ):
            yield RULE.at(
                group.origin.of("engine_args", "enable_prefix_caching"),
                f"{topology.model.id} has layers with a state, which LMCache carries only with "
                "prefix caching",
                fix="write engine_args: {enable_prefix_caching: true}",
                why="LMCache refuses states that are not kept at block boundaries, which vLLM does "
                "with prefix caching alone",
            )
