"""Context parallelism is one that the worker's GPUs and its connectors can carry.

Decode context parallelism spreads a token's KV over tensor-parallel ranks; prefill context
parallelism takes GPUs of its own, which a group of workers does not have.

Accepted:
    name: context
    stack: vllm-0.32
    topology: disagg
    model: {id: deepseek-ai/DeepSeek-V3}
    workers:
      - {role: prefill, gpus: [0, 1], tensor_parallel_size: 2}
      - role: decode
        gpus: [2, 3]
        tensor_parallel_size: 2
        engine_args: {decode_context_parallel_size: 2}

Rejected:
    name: context
    stack: vllm-0.32
    topology: disagg
    model: {id: Qwen/Qwen3-0.6B}
    workers:
      - {role: prefill, gpus: [0, 1], tensor_parallel_size: 2}
      - role: decode
        gpus: [2, 3]
        tensor_parallel_size: 2
        engine_args: {decode_context_parallel_size: 2}

Source: vLLM 0.32.0 config/parallel.py, _validate_parallel_config; config/vllm.py, "PD with
decode_context_parallel_size > 1 is only supported for MLA models"; config/model.py,
verify_with_parallel_config. NIXL of 0.25.1 and before knows no context parallelism, nor do LMCache
in process (LMCache#1732) and its server before 0.5.6 (LMCache#4030; lmcache 0.5.6
integration/vllm/lmcache_mp_connector.py, validate_dcp_support: "would silently store wrong or
incomplete KV").
"""

from __future__ import annotations

from collections.abc import Iterator

from compiler.diagnostic import Diagnostic, Rule, Severity
from compiler.model.config import ModelConfig
from compiler.resolve.connectors import lacks_context_parallel
from compiler.stacks.stack import Stack
from compiler.topology import Topology, TopologyKind, WorkerGroup

RULE = Rule(
    "context-parallel",
    Severity.ERROR,
    "the engine ends when it builds its configuration, or copies a part of the KV",
)
_DECODE, _PREFILL = "decode_context_parallel_size", "prefill_context_parallel_size"


def check(topology: Topology, stack: Stack, model: ModelConfig | None) -> Iterator[Diagnostic]:
    """Report sizes that a group's GPUs, model or connectors do not allow."""
    for group in topology.workers:
        if _size(group, _PREFILL) > 1:
            yield RULE.at(
                group.origin.of("engine_args", _PREFILL),
                f"{_PREFILL} {_size(group, _PREFILL)} takes GPUs that the worker does not have",
                fix="remove it; tensor_parallel_size and replicas use more gpus",
                why="each context-parallel rank is a GPU more, and a worker has none for it",
            )
        size = _size(group, _DECODE)
        wrong = _wrong(topology, stack, model, group, size) if size > 1 else None
        if wrong:
            message, fix = wrong
            span = group.origin.of("engine_args", _DECODE)
            yield RULE.at(span, f"{_DECODE} {size} {message}", fix=fix)


def _wrong(
    topology: Topology, stack: Stack, model: ModelConfig | None, group: WorkerGroup, size: int
) -> tuple[str, str] | None:
    """Return what is wrong with a size of more than 1, and the fix."""
    ranks = group.tensor_parallel_size
    is_latent = model is not None and model.is_latent
    if ranks % size:
        return f"does not divide tensor_parallel_size {ranks}", f"remove it, or write {ranks}"
    lacking = lacks_context_parallel(topology, stack, group)
    if lacking:
        return (
            f"spreads a token's KV over ranks, of which {lacking} stores a part or nothing",
            "remove it, or write lmcache: false for these workers",
        )
    if topology.kind is TopologyKind.DISAGG:
        if not stack.pairing.context_parallel:
            return "is not known to this stack's NIXL connector", "remove it"
        if model is not None and not is_latent:
            return (
                f"is not copied by NIXL: {topology.model.id} has no latent attention",
                "remove it",
            )
        if size != ranks:
            return (
                f"is a part of tensor_parallel_size {ranks}, and NIXL copies all or none",
                f"write {_DECODE}: {ranks}, or remove it",
            )
    if model is None or is_latent or model.kv_heads is None or model.attention_heads is None:
        return None
    most = ranks // model.kv_heads
    if size > most:
        return (
            f"needs tensor_parallel_size {size * model.kv_heads}: "
            f"{topology.model.id} has {model.kv_heads} KV heads",
            "remove it" if most < 2 else f"write {_DECODE}: {most}",
        )
    queries = model.attention_heads // model.kv_heads
    if queries % size:
        return f"does not divide the {queries} query heads that share a KV head", "remove it"
    return None


def _size(group: WorkerGroup, name: str) -> int:
    given = group.engine_args.get(name, 1)
    return given if isinstance(given, int) else 1
