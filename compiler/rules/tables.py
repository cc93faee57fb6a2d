"""The rules, one module each, listed by what they need to know.

A rule module has a docstring (what it protects, an accepted and a rejected profile, its source),
a `RULE` and a pure `check`; its file is named as the rule.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from compiler.diagnostic import Diagnostic
from compiler.model.config import FoundModel
from compiler.resolve.plan_of import Resolved
from compiler.rules import (
    batch_of_several_blocks,
    batch_smaller_than_block,
    cache_keys,
    cache_smaller_than_chunk,
    chunk_larger_than_prompt,
    chunk_of_several_blocks,
    chunk_size_advice,
    chunk_size_alignment,
    combination_on_paper,
    context_parallel,
    discovery,
    draft_cache,
    engine_args,
    engine_args_together,
    engine_death,
    environment,
    event_endpoint,
    expandable_segments,
    frontend_exposed,
    gpu_count,
    gpu_form,
    gpu_overcommit,
    hybrid_model,
    index_cache,
    internal_ports,
    key_in_clear,
    kv_cache_layout,
    kv_groups,
    kv_smaller_than_request,
    latent_attention,
    layerwise,
    lmcache_disk,
    lmcache_environment,
    lmcache_parts,
    lmcache_settings,
    lmcache_unused,
    model_architecture,
    model_id,
    model_limits,
    model_unknown,
    pairing,
    port_conflict,
    proxy_unused,
    roles,
    routing,
    secret_env,
    secret_in_profile,
    served_name,
    shared_cache,
    socket_path,
    split_blocks,
    stack_case,
    tier_conflict,
    tier_folder,
    tier_forgets,
    tier_offered,
    tier_server,
    tier_size,
    tier_system_folder,
    tier_unbounded,
    worker_interface,
    worker_port,
)
from compiler.stacks.stack import Stack
from compiler.topology import Topology

TOPOLOGY_RULES = (
    roles,
    gpu_count,
    gpu_form,
    model_id,
    frontend_exposed,
    key_in_clear,
    proxy_unused,
    secret_in_profile,
    lmcache_unused,
    cache_keys,
    layerwise,
    draft_cache,
    lmcache_disk,
    tier_server,
    tier_folder,
    tier_size,
    tier_system_folder,
    chunk_larger_than_prompt,
    expandable_segments,
    socket_path,
    engine_death,
)
"""check(topology): relations inside a profile."""

STACK_RULES = (
    event_endpoint,
    stack_case,
    combination_on_paper,
    routing,
    discovery,
    worker_port,
    served_name,
    engine_args,
    engine_args_together,
    environment,
    worker_interface,
    secret_env,
    lmcache_environment,
    lmcache_settings,
    lmcache_parts,
    tier_offered,
    tier_conflict,
    tier_unbounded,
    tier_forgets,
    internal_ports,
    kv_cache_layout,
    gpu_overcommit,
)
"""check(topology, stack): whatever needs a stack's facts."""

MODEL_RULES = (
    model_limits,
    hybrid_model,
    kv_groups,
    index_cache,
    chunk_size_alignment,
    chunk_of_several_blocks,
    batch_of_several_blocks,
    batch_smaller_than_block,
    split_blocks,
    latent_attention,
    context_parallel,
    pairing,
    shared_cache,
    kv_smaller_than_request,
    cache_smaller_than_chunk,
    chunk_size_advice,
)
"""check(topology, stack, model): what also depends on the model's config.json.

model is None where there is no config.json of it.
"""

FOUND_RULES = (model_unknown, model_architecture)
"""check(topology, stack, found): what is known of the model at all."""

PLAN_RULES = (port_conflict,)
"""check(resolved): what only finished plans show, of one profile or of several on one host."""


def check_profile(topology: Topology) -> Iterator[Diagnostic]:
    """Return what a profile says wrongly by itself."""
    for rule in TOPOLOGY_RULES:
        yield from rule.check(topology)


def check_stack(topology: Topology, stack: Stack, model: FoundModel) -> Iterator[Diagnostic]:
    """Return what does not fit a profile's stack, or its model where that is known."""
    for rule in STACK_RULES:
        yield from rule.check(topology, stack)
    for rule_of_model in MODEL_RULES:
        yield from rule_of_model.check(topology, stack, model.config)
    for rule_of_knowledge in FOUND_RULES:
        yield from rule_of_knowledge.check(topology, stack, model)


def check_plans(resolved: Sequence[Resolved]) -> Iterator[Diagnostic]:
    """Return what plans of one host take from each other."""
    for rule in PLAN_RULES:
        yield from rule.check(resolved)
