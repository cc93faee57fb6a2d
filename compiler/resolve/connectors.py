"""Choose the KV connectors of a worker, as the engine's kv_transfer_config."""

from __future__ import annotations

from compiler.document import Json
from compiler.process import connectors_of
from compiler.stacks.stack import Platform, Stack
from compiler.topology import CacheMode, Role, Topology, TopologyKind, WorkerGroup

KvTransferConfig = dict[str, Json]


def cache_connector(stack: Stack, mode: CacheMode) -> KvTransferConfig:
    """Return LMCache's connector as a skeleton, which each worker fills."""
    return dict(stack.connectors.cache[mode.value])


def has_transfer(topology: Topology, stack: Stack) -> bool:
    """Return whether some form of some worker moves KV to another engine."""
    return any(group.role.value in stack.connectors.transfer for group in topology.workers)


def kv_transfer_config(
    topology: Topology, stack: Stack, role: Role, cache: KvTransferConfig | None
) -> KvTransferConfig:
    """Return the engine's kv_transfer_config as a skeleton; empty where a worker has no connector.

    Shape:  one connector, or MultiConnector with NIXL first: it loads from the first child that
            has the tokens, and a cache listed first would win with a part of the prompt. A stack
            whose wrapper wants the cache first says cache_first.
    Source: vLLM 0.32.0 v1/multi_connector.py, get_num_new_matched_tokens.
    """
    transfer: KvTransferConfig = dict(stack.connectors.transfer.get(role.value, {}))
    if cache is None:
        return transfer
    if topology.kind is TopologyKind.AGG:
        return cache
    children: list[Json] = [transfer, cache]
    several: KvTransferConfig = dict(stack.connectors.several)
    several["kv_connector_extra_config"] = {
        "connectors": children[::-1] if stack.connectors.cache_first else children
    }
    return several


def connector_argv(stack: Stack, config: KvTransferConfig) -> tuple[str, ...]:
    """Return the option that makes the engine have these connectors; none where its file does."""
    command = stack.connectors.command
    if command is None or not command.flag:
        return ()
    values = [command.words[item.name] for item in connectors_of(config)]
    return (command.flag, *(values or [command.none]))


def loses_hybrid_manager(topology: Topology, stack: Stack) -> bool:
    """Return whether some worker's connector lacks the hybrid KV cache manager.

    NIXL hashes the choice at handshake, so one such worker decides for every worker of the
    deployment, in both forms of the bundle.
    Source: vLLM 0.32.0 v1/nixl/metadata.py, is_hma_enabled.
    """
    if not topology.caching:
        return False
    cache = stack.connectors.cache.get(topology.lmcache.mode.value, {})
    return cache.get("kv_connector") in stack.connectors.without_hybrid_manager


def without_manager(topology: Topology, stack: Stack) -> str:
    """Return the connector of a profile that lacks the hybrid KV cache manager; empty: none."""
    named = []
    if topology.caching:
        named.append(stack.connectors.cache.get(topology.lmcache.mode.value, {}))
    if topology.kind is TopologyKind.DISAGG:
        named += [stack.connectors.transfer.get(group.role.value, {}) for group in topology.workers]
    found = (str(one.get("kv_connector", "")) for one in named)
    return next((one for one in found if one in stack.connectors.without_hybrid_manager), "")


def lacks_context_parallel(topology: Topology, stack: Stack, group: WorkerGroup) -> str:
    """Return the connector of a group's LMCache that loses KV spread over ranks; empty: none."""
    cache = stack.connectors.cache.get(topology.lmcache.mode.value, {})
    name = str(cache.get("kv_connector", "")) if topology.uses_lmcache(group) else ""
    return name if name in stack.connectors.without_context_parallel else ""


def connector_names(topology: Topology, stack: Stack, group: WorkerGroup) -> tuple[str, ...]:
    """Return the connectors of a group's workers, without the one that holds others."""
    transfer = stack.connectors.transfer.get(group.role.value, {})
    cache = stack.connectors.cache.get(topology.lmcache.mode.value, {})
    is_cached = topology.uses_lmcache(group)
    is_alone = topology.kind is TopologyKind.AGG and is_cached
    given = ({} if is_alone else transfer, cache if is_cached else {})
    return tuple(str(one["kv_connector"]) for one in given if "kv_connector" in one)


def chunk_multiple(group: WorkerGroup, platform: Platform) -> tuple[int, str]:
    """Return the tokens that a group's chunk must be a multiple of, and where they come from."""
    given = group.engine_args.get("block_size")
    context = group.engine_args.get("decode_context_parallel_size", 1)
    scale = context if isinstance(context, int) and context > 0 else 1
    if isinstance(given, int) and not isinstance(given, bool) and given > 0:
        return given * scale, "set here"
    return platform.block_size * scale, "the engine's default"
