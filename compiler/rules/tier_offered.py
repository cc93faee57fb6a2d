"""The stack's LMCache has every tier in the profile's mode.

LMCache has two sets of backends, one for each mode, and neither has all. One that a mode lacks is
an error after the start, or a line in a log beside a green health check.

Accepted:
    name: tiers
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    lmcache: {tiers: [{disk: {path: /var/cache/kv, size_gb: 100}}]}
    workers: [{role: aggregated, gpus: [0]}]

Rejected:
    name: tiers
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    lmcache: {tiers: [{infinistore: {host: 10.0.0.5}}]}
    workers: [{role: aggregated, gpus: [0]}]

Source: schemas/tiers/*.yaml; lmcache 0.5.3 and 0.5.6 v1/distributed/l2_adapters/ and
v1/storage_backend/connector/.
"""

from __future__ import annotations

from collections.abc import Iterator

from compiler.diagnostic import Diagnostic, Rule, Severity
from compiler.resolve.tiers import applies_to, spec_of
from compiler.stacks.stack import Stack
from compiler.stacks.tier_specs import TierConstraint
from compiler.topology import TierChoice, Topology

RULE = Rule("tier-offered", Severity.ERROR)


def check(topology: Topology, stack: Stack) -> Iterator[Diagnostic]:
    """Report tiers, and options of tiers, that the stack or the mode does not have."""
    for tier in topology.lmcache.tiers:
        form = spec_of(tier, topology, stack)
        if form is None and tier.kind in stack.tier_kinds:
            continue  # the stack refuses the mode itself
        if form is None:
            yield _unknown(topology, tier, stack)
        elif form.refused:
            mode = topology.lmcache.mode.value
            message = f"there is no tier {tier.kind} in mode {mode}"
            yield RULE.at(tier.origin.key(), message, fix=form.fix, why=form.refused)
        else:
            for refusal in form.refuses:
                if applies_to(refusal.when, tier):
                    yield _refused(topology, tier, refusal)
            for want in form.wants:
                if applies_to(want.when, tier):
                    yield RULE.at(tier.origin.key(), want.message, fix=want.fix, why=want.why)


def _unknown(topology: Topology, tier: TierChoice, stack: Stack) -> Diagnostic:
    release = f"LMCache {stack.versions['lmcache']}"
    message = f"nobody has looked at the tier {tier.kind} of {release} (stack {stack.name})"
    return RULE.at(
        tier.origin.key(),
        message,
        fix="remove the tier, or write stack: vllm-0.32, vllm-0.25, dynamo-1.6 or dynamo-1.3",
        label=topology.lmcache.mode.value,
        why="a tier's form differs between releases, and a wrong one serves without the tier",
    )


def _refused(topology: Topology, tier: TierChoice, refusal: TierConstraint) -> Diagnostic:
    """Report at the first of the options that ask for it, where it was written."""
    names = [name for name in refusal.when.names if tier.origin.wrote(name)]
    span = tier.origin.of(names[0]) if names else tier.origin.key()
    mode = topology.lmcache.mode.value
    message = f"{tier.kind} with {' and '.join(refusal.when.names)} is not possible in mode {mode}"
    return RULE.at(span, message, fix=refusal.fix, why=refusal.why)
