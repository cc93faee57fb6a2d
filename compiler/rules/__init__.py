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
    environment,
    frontend_exposed,
    gpu_count,
    gpu_overcommit,
    lmcache_unused,
    model_id,
    pairing_engine_args,
    port_conflict,
    roles,
    routing,
    served_name,
    stack_cases,
    worker_port,
)

TOPOLOGY_RULES = (
    roles,
    gpu_count,
    model_id,
    frontend_exposed,
    lmcache_unused,
    chunk_larger_than_prompt,
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
    pairing_engine_args,
    gpu_overcommit,
)
"""check(topology, stack): whatever needs a stack's facts, run by `resolve`."""

PLAN_RULES = (port_conflict,)
"""check(resolved, …): what only the finished plans show, run by `resolve` and across profiles."""
