"""What a tier of files is read again after a restart, or the profile's reader knows that it is not.

LMCache in process keeps the index of its disk tier in memory. dync empties the folder at each
start, since what lies there is neither read nor counted.

Accepted:
    name: tiers
    stack: vllm-0.25
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    lmcache: {tiers: [{disk: {path: /var/cache/kv, size_gb: 100}}]}
    workers: [{role: aggregated, gpus: [0]}]

Reported:
    name: tiers
    stack: vllm-0.25
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    lmcache: {mode: in_process, tiers: [{disk: {path: /var/cache/kv, size_gb: 100}}]}
    workers: [{role: aggregated, gpus: [0], engine_args: {enforce_eager: true}}]

Source: lmcache 0.5.6 v1/storage_backend/local_disk_backend.py: no scan of its folder.
"""

from __future__ import annotations

from collections.abc import Iterator

from compiler.diagnostic import Diagnostic, Rule, Severity
from compiler.resolve.tiers import spec_of
from compiler.stacks.stack import Stack
from compiler.topology import Topology

RULE = Rule("tier-forgets", Severity.INFO, "LMCache keeps the index of these files in memory only")


def check(topology: Topology, stack: Stack) -> Iterator[Diagnostic]:
    """Report tiers of files that are emptied at each start."""
    for tier in topology.lmcache.tiers:
        form = spec_of(tier, topology, stack)
        if form is not None and form.keep_gb == 0:
            yield RULE.at(
                tier.origin.key(),
                f"the tier {tier.kind} is emptied at each start in mode in_process",
                fix="nothing to do; mode: multiprocess reads it again",
            )
