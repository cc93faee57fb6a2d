"""The KV cache's layout is one that LMCache copies, and the same in prefill and decode.

NIXL compares layouts at the first request. LMCache refuses a layout that scatters a block's heads
when the worker registers its cache, after the model has loaded.

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

Source: lmcache 0.5.6 integration/vllm/utils.py, translate_vllm_kv_cache_layout; vLLM 0.32.0
v1/nixl/base_worker.py, _validate_remote_agent_handshake, and vllm/envs.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from compiler.diagnostic import Diagnostic, Label, Severity
from compiler.rules.report import finding
from compiler.topology import Arrangement, Topology, WorkerGroup

ID = "kv-cache-layout"
SEVERITY = Severity.ERROR
WHY = "KV is copied as it lies in memory"
_NAME = "VLLM_KV_CACHE_LAYOUT"
_COPIED = ("LBNHC", "LBHNC", "BLHNC", "BLNHC", "NHD", "HND")
_ALIASES = {"NHD": "LBNHC", "HND": "LBHNC"}


def check(topology: Topology) -> Iterator[Diagnostic]:
    """Report layouts that LMCache lacks, and groups that differ from the first one."""
    for group in topology.workers:
        value = group.env.get(_NAME)
        if value is not None and topology.uses_lmcache(group) and value not in _COPIED:
            yield finding(
                ID,
                SEVERITY,
                "LMCache copies a block's heads in one piece",
                group.origin.of("env", _NAME),
                f"LMCache does not copy the KV cache layout {value}",
                f"remove it, or write {_NAME}: LBHNC",
            )
    if topology.arrangement is Arrangement.DISAGG:
        yield from _unequal(topology.workers)


def _unequal(groups: tuple[WorkerGroup, ...]) -> Iterator[Diagnostic]:
    first = groups[0]
    for group in groups[1:]:
        ours, theirs = _layout(group), _layout(first)
        if ours == theirs:
            continue
        both = _NAME in group.env and _NAME in first.env
        wanted = group.env.get(_NAME) or first.env.get(_NAME)
        yield finding(
            ID,
            SEVERITY if both else Severity.WARNING,
            WHY,
            group.origin.of("env", _NAME),
            f"the KV cache layout is {ours} for {group.role.value} and {theirs} for "
            f"{first.role.value}",
            f"write {_NAME}: {wanted} in both env, or in neither",
            related=(Label(span=first.origin.of("env", _NAME), text="the other side"),),
        )


def _layout(group: WorkerGroup) -> str:
    given = group.env.get(_NAME)
    return "the engine's choice" if given is None else _ALIASES.get(given, given)
