"""Probe each storage tier behind a cache, by its kind; `PROBES` is the table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from compiler.deploy.finding import Finding, skipped
from compiler.plan import Plan, Process

Probe = Callable[[Process, Any], Iterator[Finding]]
"""Look at one tier of a process; the tier is the plan's own value, with at least a `kind`."""

PROBES: Mapping[str, Probe] = {}


def tiers_of(process: Process) -> tuple[Any, ...]:
    """Give the storage tiers that the plan says a process has."""
    return tuple(getattr(process, "tiers", ()))


def probe_tiers(plan: Plan, probes: Mapping[str, Probe] = PROBES) -> Iterator[Finding]:
    """Probe every tier of a plan; a kind without a probe is said to be unproved."""
    for process in plan.processes:
        for tier in tiers_of(process):
            kind = str(getattr(tier.kind, "value", tier.kind))
            if kind in probes:
                yield from probes[kind](process, tier)
            else:
                yield skipped("tier", process.name, f"tier {kind}: no probe for this kind")


def kinds(tiers: Iterable[Any]) -> list[str]:
    """Name the kinds of tiers, in their order."""
    return [str(getattr(tier.kind, "value", tier.kind)) for tier in tiers]
