"""The rules, one module each, listed by the stage that runs them.

A rule module has a docstring (what it protects, an accepted and a rejected profile, its source),
`ID`, `SEVERITY`, `WHY` and a pure `check`.
"""

from __future__ import annotations

from compiler.rules import (
    chunk_alignment,
    chunk_larger_than_prompt,
    discovery,
    engine_args,
    engine_death,
    environment,
    expandable_segments,
    frontend_exposed,
    gpu_count,
    gpu_form,
    gpu_overcommit,
    internal_ports,
    kv_cache_layout,
    lmcache_disk,
    lmcache_environment,
    lmcache_settings,
    lmcache_unused,
    model_id,
    pairing_engine_args,
    pairing_tensor_parallel,
    port_conflict,
    roles,
    routing,
    served_name,
    socket_path,
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
    pairing_tensor_parallel,
    kv_cache_layout,
    expandable_segments,
    socket_path,
    engine_death,
)
"""check(topology): relations inside a profile, run by `validate`."""

STACK_RULES = (
    stack_cases,
    routing,
    discovery,
    worker_port,
    served_name,
    chunk_alignment,
    engine_args,
    environment,
    lmcache_environment,
    lmcache_settings,
    tier_offered,
    tier_conflict,
    tier_unbounded,
    tier_forgets,
    internal_ports,
    pairing_engine_args,
    gpu_overcommit,
)
"""check(topology, stack): whatever needs a stack's facts, run by `resolve`."""

PLAN_RULES = (port_conflict,)
"""check(resolved, …): what only the finished plans show, run by `resolve` and across profiles."""
