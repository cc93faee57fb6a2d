"""PyTorch does not move KV memory below a connector.

With expandable segments the addresses that a connector has registered may come to mean other
memory. vLLM refuses the pair once the engine's configuration is built.

Accepted:
    name: segments
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    workers:
      - {role: aggregated, gpus: [0], env: {PYTORCH_CUDA_ALLOC_CONF: "max_split_size_mb:512"}}

Rejected:
    name: segments
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    workers:
      - {role: aggregated, gpus: [0], env: {PYTORCH_CUDA_ALLOC_CONF: "expandable_segments:True"}}

Source: vLLM 0.25.1, 0.31.0 and 0.32.0 vllm/config/vllm.py, _verify_kv_transfer_compat.
"""

from __future__ import annotations

from collections.abc import Iterator

from compiler.diagnostic import Diagnostic, Rule, Severity
from compiler.topology import Topology, TopologyKind

RULE = Rule(
    "expandable-segments",
    Severity.ERROR,
    "memory that a KV connector has registered must stay where it is",
)
_NAME = "PYTORCH_CUDA_ALLOC_CONF"
_SETTING = "expandable_segments:True"
_EXEMPT = ("enable_cumem_allocator", "enable_sleep_mode")


def check(topology: Topology) -> Iterator[Diagnostic]:
    """Report the setting on each worker that has a connector."""
    for group in topology.workers:
        value = group.env.get(_NAME, "")
        has_connector = topology.uses_lmcache(group) or topology.kind is TopologyKind.DISAGG
        if _SETTING not in value or not has_connector:
            continue
        if any(group.engine_args.get(name) is True for name in _EXEMPT):
            continue
        rest = ",".join(part for part in value.split(",") if part.strip() != _SETTING)
        yield RULE.at(
            group.origin.of("env", _NAME),
            f"{_SETTING} on a worker with a KV connector",
            fix=f'write {_NAME}: "{rest}"' if rest else f"remove {_NAME}",
        )
