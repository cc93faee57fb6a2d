"""The rules, one module each, listed by the stage that runs them.

A rule module has a docstring (what it protects, an accepted and a rejected profile, its source),
`ID`, `SEVERITY`, `WHY` and a pure `check`.
"""

from __future__ import annotations

from compiler.rules import (
    cache_smaller_than_chunk,
    chunk_alignment,
    chunk_larger_than_prompt,
    chunk_size_advice,
    combination_on_paper,
    context_parallel,
    discovery,
    engine_args,
    engine_args_together,
    engine_death,
    environment,
    expandable_segments,
    frontend_exposed,
    gpu_count,
    gpu_form,
    gpu_overcommit,
    hybrid_model,
    internal_ports,
    kv_cache_layout,
    kv_room,
    latent_attention,
    lmcache_disk,
    lmcache_environment,
    lmcache_settings,
    lmcache_unused,
    model_id,
    model_limits,
    pairing,
    port_conflict,
    roles,
    routing,
    served_name,
    socket_path,
    split_blocks,
    stack_cases,
    tier_conflict,
    tier_folder,
    tier_forgets,
    tier_offered,
    tier_server,
    tier_size,
    tier_unbounded,
    worker_port,
)

TOPOLOGY_RULES = (
    roles,
    gpu_count,
    gpu_form,
    model_id,
    frontend_exposed,
    lmcache_unused,
    lmcache_disk,
    tier_server,
    tier_folder,
    tier_size,
    chunk_larger_than_prompt,
    expandable_segments,
    socket_path,
    engine_death,
)
"""check(topology): relations inside a profile, run by `validate`."""

STACK_RULES = (
    stack_cases,
    combination_on_paper,
    routing,
    discovery,
    worker_port,
    served_name,
    chunk_alignment,
    engine_args,
    engine_args_together,
    environment,
    lmcache_environment,
    lmcache_settings,
    tier_offered,
    tier_conflict,
    tier_unbounded,
    tier_forgets,
    internal_ports,
    kv_cache_layout,
    gpu_overcommit,
)
"""check(topology, stack): whatever needs a stack's facts, run by `resolve`."""

MODEL_RULES = (
    model_limits,
    hybrid_model,
    split_blocks,
    latent_attention,
    context_parallel,
    pairing,
    kv_room,
    cache_smaller_than_chunk,
    chunk_size_advice,
)
"""check(topology, stack, model): what also depends on the model's config.json, run by `resolve`.

model is None where neither a local folder nor schemas/models.yaml has it.
"""

PLAN_RULES = (port_conflict,)
"""check(resolved, …): what only the finished plans show, run by `resolve` and across profiles."""
