"""The KV cache's layout is one that the engine has and LMCache copies.

LMCache refuses a layout that scatters a block's heads when the worker registers its cache, after
the model has loaded.

Accepted:
    name: layout
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    workers: [{role: aggregated, gpus: [0], env: {VLLM_KV_CACHE_LAYOUT: LBHNC}}]

Rejected:
    name: layout
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    workers: [{role: aggregated, gpus: [0], env: {VLLM_KV_CACHE_LAYOUT: LHBNC}}]

Source: lmcache 0.5.6 integration/vllm/utils.py, translate_vllm_kv_cache_layout; vLLM's envs.py,
VLLM_KV_CACHE_LAYOUT.
"""

from __future__ import annotations

from collections.abc import Iterator

from compiler.diagnostic import Diagnostic, Rule, Severity, suggestion
from compiler.resolve.pairing import LAYOUT
from compiler.stacks.stack import Stack
from compiler.topology import Topology

RULE = Rule("kv-cache-layout", Severity.ERROR, "LMCache copies a block's heads in one piece")
_COPIED = ("LBNHC", "LBHNC", "BLHNC", "BLNHC", "NHD", "HND")


def check(topology: Topology, stack: Stack) -> Iterator[Diagnostic]:
    """Report layouts that the stack's vLLM does not have, and those that LMCache does not copy."""
    for group in topology.workers:
        value = group.env.get(LAYOUT)
        if value is None:
            continue
        span = group.origin.of("env", LAYOUT)
        if value not in stack.kv_cache_layouts:
            message = f"vLLM {stack.versions['vllm']} has no KV cache layout {value}"
            near = suggestion(value, stack.kv_cache_layouts) or stack.kv_cache_layouts[0]
            why = "the engine ends when it reads the variable"
            yield RULE.at(span, message, fix=f"remove it, or write {LAYOUT}: {near}", why=why)
        elif topology.uses_lmcache(group) and value not in _COPIED:
            message = f"LMCache does not copy the KV cache layout {value}"
            yield RULE.at(span, message, fix=f"remove it, or write {LAYOUT}: LBHNC")
