"""LMCache that loads layer by layer runs outside of full CUDA graphs.

LMCACHE_USE_LAYERWISE has each layer wait for its KV. A full CUDA graph replays all layers at once
and skips the waiting: hits are counted, and layers read what has not come yet. vLLM changes its
graphs only where the key stands in the connector's own configuration, which a variable does not
reach, and before 0.23 never.

Accepted:
    name: layers
    stack: vllm-0.25
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    lmcache: {mode: in_process}
    workers:
      - role: aggregated
        gpus: [0]
        engine_args: {compilation_config: {cudagraph_mode: PIECEWISE}}
        env: {LMCACHE_USE_LAYERWISE: "true"}

Rejected:
    name: layers
    stack: vllm-0.25
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    lmcache: {mode: in_process}
    workers:
      - {role: aggregated, gpus: [0], env: {LMCACHE_USE_LAYERWISE: "true"}}

Source: LMCache#2453; vLLM 0.25.1 v1/lmcache_connector.py, requires_piecewise_for_cudagraph, and
config/vllm.py, "requires PIECEWISE CUDA graph mode"; 0.11.0 and 0.16.0 have neither; lmcache 0.3.7
to 0.5.3 integration/vllm/vllm_v1_adapter.py, wait_for_layer_load.
"""

from __future__ import annotations

from collections.abc import Iterator

from compiler.diagnostic import Diagnostic, Rule, Severity
from compiler.document import Json
from compiler.stacks.lmcache_keys import unquoted, variable
from compiler.topology import CacheMode, Topology, WorkerGroup

RULE = Rule(
    "layerwise",
    Severity.ERROR,
    "a full CUDA graph replays all layers at once, and skips the waiting for each one's KV",
)
_NAME = variable("use_layerwise")


def check(topology: Topology) -> Iterator[Diagnostic]:
    """Report each worker that loads layer by layer below full CUDA graphs."""
    if topology.lmcache.mode is not CacheMode.IN_PROCESS:
        return
    for group in topology.workers:
        is_on = unquoted(group.env.get(_NAME, "")).lower() in ("true", "1")
        if is_on and topology.uses_lmcache(group) and not _is_without_full_graphs(group):
            yield RULE.at(
                group.origin.of("env", _NAME),
                f"{_NAME} loads nothing that a full CUDA graph would wait for",
                fix="write engine_args: {compilation_config: {cudagraph_mode: PIECEWISE}}, "
                "or enforce_eager: true",
            )


def _is_without_full_graphs(group: WorkerGroup) -> bool:
    config: Json = group.engine_args.get("compilation_config")
    mode = config.get("cudagraph_mode") if isinstance(config, dict) else None
    is_piecewise = isinstance(mode, str) and mode.upper() in ("PIECEWISE", "NONE")
    return group.engine_args.get("enforce_eager") is True or is_piecewise
