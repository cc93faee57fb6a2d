"""Something bounds what a tier holds.

Some of LMCache's backends never remove anything: the file system fills up, and then every store
fails. It is a warning, since a quota or a job of your own may do it.

Accepted:
    name: tiers
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    lmcache: {tiers: [{disk: {path: /var/cache/kv, size_gb: 100}}]}
    workers: [{role: aggregated, gpus: [0]}]

Reported:
    name: tiers
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    lmcache: {tiers: [{fs: {path: /mnt/kv}}]}
    workers: [{role: aggregated, gpus: [0]}]

Source: lmcache 0.5.6 v1/distributed/l2_adapters/fs_l2_adapter.py (no capacity),
v1/storage_backend/gds_backend.py ("GDS Backend does not support eviction").
"""

from __future__ import annotations

from collections.abc import Iterator

from compiler.diagnostic import Diagnostic, Rule, Severity
from compiler.resolve.tiers import spec_of
from compiler.stacks.stack import Stack
from compiler.topology import Topology

RULE = Rule(
    "tier-unbounded",
    Severity.WARNING,
    "LMCache never removes anything there: a full file system fails every store",
)


def check(topology: Topology, stack: Stack) -> Iterator[Diagnostic]:
    """Report tiers that grow for ever."""
    for tier in topology.lmcache.tiers:
        form = spec_of(tier, topology, stack)
        if form is not None and form.bounded == "nothing":
            yield RULE.at(
                tier.origin.key(),
                f"nothing bounds what the tier {tier.kind} writes to {tier.options['path']}",
                fix="set a quota on the folder and remove old files by a job of your own, "
                "or write a tier with a size (disk)",
            )
