"""LMCache that is on is used, and a worker that wants it can have it.

Accepted:
    name: plain
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    lmcache: {enabled: false}
    workers: [{role: aggregated, gpus: [0]}]

Rejected:
    name: plain
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    lmcache: {enabled: false}
    workers: [{role: aggregated, gpus: [0], lmcache: true}]

Source: the reference deployments of NVIDIA Dynamo's page "LMCache Integration in Dynamo".
"""

from __future__ import annotations

from collections.abc import Iterator

from compiler.diagnostic import Diagnostic, Label, Rule, Severity
from compiler.topology import Topology

RULE = Rule(
    "lmcache-unused",
    Severity.ERROR,
    "a cache that no worker uses, or a worker whose cache is off, never hits",
)


def check(topology: Topology) -> Iterator[Diagnostic]:
    """Report contradictions between lmcache.enabled and workers[].lmcache."""
    enabled = topology.lmcache.enabled
    switch = Label(span=topology.lmcache.origin.of("enabled"), text="set here")
    if enabled and not any(topology.uses_lmcache(group) for group in topology.workers):
        asked_off = [group for group in topology.workers if group.lmcache is False]
        yield RULE.at(
            asked_off[0].origin.of("lmcache") if asked_off else topology.lmcache.origin.key(),
            "lmcache is enabled, but no worker uses it",
            fix="remove lmcache: false from a worker, or write lmcache: {enabled: false}",
        )
    for tier in topology.lmcache.tiers if not enabled else ():
        yield RULE.at(
            tier.origin.key(),
            f"the tier {tier.kind} is not used: lmcache.enabled is false",
            fix="remove it, or write lmcache.enabled: true",
            related=(switch,),
            why="without LMCache nothing stands before a tier",
            severity=Severity.WARNING,
        )
    for group in topology.workers:
        if group.lmcache and not enabled:
            yield RULE.at(
                group.origin.of("lmcache"),
                "this worker asks for LMCache, but lmcache.enabled is false",
                fix="write lmcache.enabled: true, or remove this line",
                related=(switch,),
            )
