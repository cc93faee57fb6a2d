"""A model whose layers differ in kind has connectors and settings that can carry its cache.

Layers with a state (Mamba, linear attention) need vLLM's hybrid KV cache manager. A connector
without it turns the manager off, and the engine dies after it has loaded the model. LMCache in a
server carries such layers only in the cache mode that prefix caching chooses, which is off by
default for these models, and some releases of vLLM choose for Mamba a mode that LMCache refuses.
NIXL copies a state only where its convolution lies with the channels first, and before 0.31 to no
decode worker that has prefix caching. An encoder's part, to
which a decoder attends, no LMCache carries.

Accepted:
    name: hybrid
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-Next-80B-A3B-Instruct}
    lmcache: {chunk_size: 544}
    workers:
      - role: aggregated
        gpus: [0]
        engine_args: {enable_prefix_caching: true, attention_backend: FLASH_ATTN}

Rejected:
    name: hybrid
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-Next-80B-A3B-Instruct}
    lmcache: {chunk_size: 544}
    workers: [{role: aggregated, gpus: [0], engine_args: {attention_backend: FLASH_ATTN}}]

Source: vLLM 0.32.0 config/vllm.py (disable_hybrid_kv_cache_manager), v1/core/kv_cache_utils.py
unify_hybrid_kv_cache_specs, config/model.py is_prefix_caching_supported, model_executor/models/
config.py MambaModelConfig, v1/nixl/base_worker.py "requires DS conv state layout"; 0.25.1 and
0.23.0 v1/nixl, "SSM can only have one local block" (dynamo#12197), and "Prefix caching with
heterogeneous physical_blocks_per_logical"; kv_connector/utils.py, block_size_ratio; 0.11.0 and
0.16.0 config, "turn HMA off for connector"; lmcache 0.5.3 and 0.5.6 integration/vllm/
kv_cache_group_edits.py, validate_kv_cache_groups.
"""

from __future__ import annotations

from collections.abc import Iterator

from compiler.diagnostic import Diagnostic, Label, Rule, Severity
from compiler.model.config import ModelConfig
from compiler.resolve.blocks import block_of
from compiler.resolve.connectors import loses_hybrid_manager, without_manager
from compiler.stacks.stack import Stack
from compiler.topology import CacheMode, Role, Topology, TopologyKind, WorkerGroup

RULE = Rule("hybrid-model", Severity.ERROR)


LAYOUT = "VLLM_SSM_CONV_STATE_LAYOUT"


def check(topology: Topology, stack: Stack, model: ModelConfig | None) -> Iterator[Diagnostic]:
    """Report a hybrid model without the manager, the cache mode or the layout that it needs."""
    if model is None:
        return
    id_, cache = topology.model.id, topology.lmcache
    if model.is_encoder_decoder and topology.caching:
        yield RULE.at(
            topology.model.origin.of("id"),
            f"{id_} has an encoder and a decoder, which LMCache does not carry",
            fix="write lmcache.enabled: false",
            why="LMCache refuses caches of cross-attention when the engine registers them",
        )
    lacking = without_manager(topology, stack)
    at = cache.origin.of("mode") if cache.origin.wrote("mode") else topology.model.origin.of("id")
    if lacking and model.keeps_state:
        yield RULE.at(
            at,
            f"{id_} has layers with a state, which {_NAMES.get(lacking, lacking)} does not carry",
            fix="write lmcache.mode: multiprocess, on a stack that has it"
            if lacking in _NAMES
            else "write stack: vllm-0.32, whose NIXL carries them",
            why="the connector turns the hybrid KV cache manager off, "
            "and the engine dies without it",
        )
    elif lacking and model.has_windows and loses_hybrid_manager(topology, stack):
        yield RULE.at(
            at,
            f"{id_} has layers with a window, which keep whole prompts here",
            fix="write lmcache.mode: multiprocess where the stack has it, "
            "or expect less room for KV",
            why="the connector turns the hybrid KV cache manager off, "
            "so every layer keeps every token",
            severity=Severity.WARNING,
        )
    elif model.keeps_state:
        for group in topology.workers:
            yield from _states(topology, stack, model, group)


_NAMES = {"LMCacheConnectorV1": "LMCache in process"}


def _states(
    topology: Topology, stack: Stack, model: ModelConfig, group: WorkerGroup
) -> Iterator[Diagnostic]:
    """Report a worker whose states are kept, or lie, as no connector takes them."""
    id_, args, refused = topology.model.id, group.engine_args, stack.connectors.refused_cache_mode
    if topology.uses_lmcache(group) and topology.lmcache.mode is CacheMode.MULTIPROCESS:
        shape = model.shape
        is_mamba = shape is not None and shape.state is not None and shape.state.is_mamba
        if args.get("enable_prefix_caching") is not True:
            yield RULE.at(
                group.origin.of("engine_args", "enable_prefix_caching"),
                f"{id_} has layers with a state, which LMCache carries only with prefix caching",
                fix="write engine_args: {enable_prefix_caching: true}",
                why="LMCache refuses states that are not kept at block boundaries, which vLLM does "
                "with prefix caching alone",
            )
        elif refused and is_mamba and args.get("mamba_cache_mode", refused) in (refused, "none"):
            yield RULE.at(
                group.origin.of("engine_args", "mamba_cache_mode"),
                f"with prefix caching vLLM {stack.versions['vllm']} keeps {id_}'s states in the "
                f"mode {refused}",
                fix="write engine_args: {mamba_cache_mode: align}",
                why=f"LMCache {stack.versions['lmcache']} takes states of the mode align alone",
            )
    yield from _moved(topology, stack, model, group)


def _moved(
    topology: Topology, stack: Stack, model: ModelConfig, group: WorkerGroup
) -> Iterator[Diagnostic]:
    """Report a worker between which and the other side NIXL copies no states."""
    id_, args, is_decode = topology.model.id, group.engine_args, group.role is Role.DECODE
    if is_decode and args.get("enable_prefix_caching") is True and not stack.pairing.cached_states:
        yield RULE.at(
            group.origin.of("engine_args", "enable_prefix_caching"),
            f"NIXL of vLLM {stack.versions['vllm']} brings no states of {id_} to a worker with "
            "prefix caching",
            fix="remove it from the decode workers, or write stack: vllm-0.32",
            why="a request that finds part of its prompt in the decode worker's own cache ends it",
        )
    if is_decode:
        yield from _other_blocks(topology, stack, model, group)
    if topology.kind is TopologyKind.DISAGG and group.env.get(LAYOUT, "DS") != "DS":
        yield RULE.at(
            group.origin.of("env", LAYOUT),
            f"{LAYOUT} {group.env[LAYOUT]} is not how NIXL copies the states of {id_}",
            fix=f"remove {LAYOUT}: dync sets DS for workers that move KV",
            why="NIXL ends the worker where a convolution's channels do not come first",
        )


def _other_blocks(
    topology: Topology, stack: Stack, model: ModelConfig, decode: WorkerGroup
) -> Iterator[Diagnostic]:
    """Report the first prefill group whose blocks differ from a decode group's."""
    platform = stack.platforms.get(topology.accelerator.value)
    ours = block_of(decode, platform, model) if platform else None
    for prefill in topology.workers:
        theirs = block_of(prefill, platform, model) if platform else None
        if prefill.role is Role.PREFILL and theirs and ours and theirs.tokens != ours.tokens:
            yield RULE.at(
                decode.origin.of("tensor_parallel_size"),
                f"decode workers keep {topology.model.id} in blocks of {ours.tokens} tokens, "
                f"and prefill workers in blocks of {theirs.tokens}",
                fix="write the same tensor_parallel_size for both",
                related=(Label(span=prefill.origin.of("role"), text=f"{theirs.tokens} tokens"),),
                why="NIXL ends the handshake where a decode worker's blocks are no multiple of a "
                "prefill worker's, and with prefix caching where they differ at all, unless the "
                "attention backend has smaller blocks that fit",
                severity=Severity.WARNING,
            )
            return
