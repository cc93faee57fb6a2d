"""Choose the KV connectors of a worker, as the engine's kv_transfer_config."""

from __future__ import annotations

from collections.abc import Mapping

from compiler.document import Json
from compiler.skeleton import fill
from compiler.stacks.stack import Stack
from compiler.topology import Arrangement, CacheMode, Role, Topology

KvTransferConfig = dict[str, Json]


def cache_connector(stack: Stack, mode: CacheMode, words: Mapping[str, Json]) -> KvTransferConfig:
    """Give LMCache's connector for one worker."""
    filled = fill(stack.connectors["cache"][mode.value], words)
    return filled if isinstance(filled, dict) else {}


def kv_transfer_config(
    topology: Topology, stack: Stack, role: Role, cache: KvTransferConfig | None
) -> KvTransferConfig:
    """Give the engine's kv_transfer_config; empty where a worker has no connector.

    Shape:  one connector, or MultiConnector with NIXL first: it loads from the first child that
            has the tokens, and a cache listed first would win with a part of the prompt.
    Source: vLLM 0.32.0 v1/multi_connector.py, get_num_new_matched_tokens.
    """
    if topology.arrangement is Arrangement.AGG:
        return cache or {}
    transfer: KvTransferConfig = dict(stack.connectors["transfer"][role.value])
    if cache is None:
        return transfer
    several: KvTransferConfig = dict(stack.connectors["several"])
    several["kv_connector_extra_config"] = {"connectors": [transfer, cache]}
    return several


def loses_hybrid_manager(topology: Topology, stack: Stack) -> bool:
    """Tell whether some worker's connector lacks the hybrid KV cache manager.

    NIXL hashes the choice at handshake, so one such worker decides for every worker of the
    deployment, in both forms of the bundle.
    Source: vLLM 0.32.0 v1/nixl/metadata.py, is_hma_enabled.
    """
    if not any(topology.uses_lmcache(group) for group in topology.workers):
        return False
    connector = stack.connectors["cache"][topology.lmcache.mode.value]["kv_connector"]
    return connector in stack.connectors["without_hybrid_manager"]
