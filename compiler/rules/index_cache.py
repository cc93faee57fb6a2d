"""A model with an index beside its KV has a cache that counts both.

DSA (DeepSeek-V3.2, GLM-5) chooses the tokens that a layer attends to by an index of keys, a cache
of its own in the layers that have one. LMCache in process counts the model's layers, gets more
caches than these, and the engine dies after it has loaded the model. A cache server takes them in
groups.

Accepted:
    name: index
    stack: vllm-0.25
    topology: agg
    model: {id: deepseek-ai/DeepSeek-V3.2}
    workers:
      - {role: aggregated, gpus: [0, 1, 2, 3, 4, 5, 6, 7], tensor_parallel_size: 8}

Rejected:
    name: index
    stack: vllm-0.25
    topology: agg
    model: {id: deepseek-ai/DeepSeek-V3.2}
    lmcache: {mode: in_process}
    workers:
      - role: aggregated
        gpus: [0, 1, 2, 3, 4, 5, 6, 7]
        tensor_parallel_size: 8
        engine_args: {enforce_eager: true}

Source: LMCache#5002, open: 99 caches of GLM-5.3 for 78 layers, "could not broadcast input array";
lmcache 0.5.3 and 0.5.6 v1/gpu_connector/gpu_connectors.py, _initialize_pointers; vLLM 0.32.0
model_executor/models/deepseek_v2.py, Indexer.
"""

from __future__ import annotations

from collections.abc import Iterator

from compiler.diagnostic import Diagnostic, Rule, Severity
from compiler.model.config import ModelConfig
from compiler.stacks.stack import Stack
from compiler.topology import CacheMode, Topology

RULE = Rule(
    "index-cache",
    Severity.ERROR,
    "LMCache in process makes room for as many caches as the model has layers, and gets more",
)


def check(topology: Topology, stack: Stack, model: ModelConfig | None) -> Iterator[Diagnostic]:  # noqa: ARG001
    """Report LMCache in process for a model whose layers have an index."""
    cache = topology.lmcache
    is_used = any(topology.uses_lmcache(group) for group in topology.workers)
    if (
        model is None
        or not model.has_index
        or cache.mode is not CacheMode.IN_PROCESS
        or not is_used
    ):
        return
    yield RULE.at(
        cache.origin.of("mode"),
        f"{topology.model.id} has an index beside its KV (DSA), which LMCache in process cannot "
        "hold",
        fix="write lmcache.mode: multiprocess, on a stack that has it",
    )
