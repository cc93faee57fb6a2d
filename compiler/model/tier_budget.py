"""Work out what a plan's storage tiers hold, by what their caches keep of a token."""

from __future__ import annotations

from dataclasses import replace

from compiler.model.memory_budget import CacheBudget
from compiler.plan import Plan


def tier_budgets(plan: Plan, budgets: tuple[CacheBudget, ...]) -> tuple[CacheBudget, ...]:
    """Return every tier whose size is known, behind the cache that it belongs to.

    A managed store is one for all processes; a disk of a process in process is one for each rank,
    as its memory is, so that one rank's share says how many tokens fit.
    """
    owners = {str(process.name): process for process in plan.processes}
    return tuple(
        replace(budget, name=f"{budget.name} {tier.kind}", total_bytes=tier.size_bytes)
        for budget in budgets
        for tier in owners[budget.name].tiers
        if tier.size_bytes is not None
    )


def unknown_tiers(plan: Plan) -> tuple[str, ...]:
    """Name each tier whose size dync does not know, with its place."""
    tiers = (tier for process in plan.processes for tier in process.tiers)
    return tuple(
        dict.fromkeys(f"{tier.kind} at {tier.place}" for tier in tiers if not tier.size_bytes)
    )
