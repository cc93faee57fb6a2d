"""A tier's server is named in one way, and its options fit each other.

LMCache goes on without a tier whose server it cannot find, and finds another one than was meant:
its plugin for Redis turns to localhost:6379 where nothing names a server.

Accepted:
    name: tiers
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    lmcache: {tiers: [{redis: {url: "redis://10.0.0.5:6379"}}]}
    workers: [{role: aggregated, gpus: [0]}]

Rejected:
    name: tiers
    stack: vllm-0.32
    topology: agg
    model: {id: Qwen/Qwen3-0.6B}
    lmcache: {tiers: [{redis: {password_file: /etc/dync/redis}}]}
    workers: [{role: aggregated, gpus: [0]}]

Source: lmcache 0.5.6 v1/storage_backend/connector/redis_adapter.py, valkey_adapter.py,
v1/distributed/l2_adapters/valkey_l2_adapter.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from compiler.diagnostic import Diagnostic, Label, Rule, Severity
from compiler.topology import TierChoice, Topology

RULE = Rule(
    "tier-server", Severity.ERROR, "LMCache serves without a tier whose server it does not find"
)
_WAYS = ("url", "hosts", "managed")
_MANAGED_ONLY = ("size_gb", "port")
_NOT_MANAGED = ("username", "tls", "sentinel", "cluster", "database")


def check(topology: Topology) -> Iterator[Diagnostic]:
    """Report servers that are named twice or not at all, and options that need others."""
    managed: TierChoice | None = None
    for tier in topology.lmcache.tiers:
        if tier.kind == "redis":
            yield from _redis(tier)
            if tier.options["managed"] and managed is not None:
                yield _second(tier, managed)
            managed = managed or (tier if tier.options["managed"] else None)
        elif tier.kind == "valkey":
            yield from _valkey(tier)
        elif tier.kind == "mooncake" and tier.options["device"] and not _rdma(tier):
            message, fix = "device is for protocol: rdma", "remove device, or write protocol: rdma"
            yield _found(tier, "device", message, fix)


def _redis(tier: TierChoice) -> Iterator[Diagnostic]:
    given = [name for name in _WAYS if tier.options[name]]
    several = tier.options["sentinel"] or tier.options["cluster"]
    if len(given) != 1:
        named = " and ".join(given) or "none of them"
        yield RULE.at(
            tier.origin.key(),
            f"redis takes exactly one of url, hosts and managed, and has {named}",
            fix="write url: redis://HOST:6379, or managed: true with size_gb",
        )
    elif tier.options["managed"]:
        yield from _managed(tier)
    else:
        for name in _MANAGED_ONLY:
            if tier.options[name] is not None:
                message = f"{name} is for a server that dync starts: this one bounds itself"
                yield _found(tier, name, message, f"remove {name}; set maxmemory on the server")
        if tier.options["hosts"] and not several:
            message = "hosts are Sentinels or nodes of a cluster, and neither is asked for"
            fix = "add sentinel: NAME or cluster: true, or write url for a single server"
            yield _found(tier, "hosts", message, fix)
        if tier.options["url"] and several:
            name = "sentinel" if tier.options["sentinel"] else "cluster"
            yield _found(tier, name, f"{name} needs hosts", "write hosts instead of url")
    if tier.options["sentinel"] and tier.options["cluster"]:
        message = "a server is found by Sentinels or as a cluster"
        yield _found(tier, "cluster", message, "remove cluster or sentinel")
    yield from _account(tier)


def _managed(tier: TierChoice) -> Iterator[Diagnostic]:
    if tier.options["size_gb"] is None:
        yield RULE.at(
            tier.origin.of("managed"),
            "the managed server has no size_gb",
            fix="add size_gb, in GiB",
            why="Redis without a limit grows until the host has no memory left",
        )
    for name in _NOT_MANAGED:
        if tier.options[name]:
            message = f"{name} is not for a server that dync starts on loopback"
            yield _found(tier, name, message, f"remove {name}")


def _valkey(tier: TierChoice) -> Iterator[Diagnostic]:
    hosts = tier.options["hosts"]
    if isinstance(hosts, list) and len(hosts) > 1 and not tier.options["cluster"]:
        message = f"of {len(hosts)} hosts only the first is used without cluster: true"
        yield _found(tier, "hosts", message, "add cluster: true, or name one host")
    if tier.options["cluster"] and tier.options["database"] is not None:
        message = "a cluster has database 0 only"
        yield _found(tier, "database", message, "remove database")
    yield from _account(tier)


def _account(tier: TierChoice) -> Iterator[Diagnostic]:
    if tier.options["username"] and not tier.options["password_file"]:
        message = "username has no password_file"
        yield _found(tier, "username", message, "add password_file, or remove username")


def _second(tier: TierChoice, first: TierChoice) -> Diagnostic:
    return RULE.at(
        tier.origin.of("managed"),
        "the deployment starts one Redis already",
        fix="remove one of them, or give the first more size_gb",
        related=(Label(span=first.origin.of("managed"), text="the first"),),
        why="a second store would hold the same chunks once more",
    )


def _rdma(tier: TierChoice) -> bool:
    return tier.options["protocol"] == "rdma"


def _found(tier: TierChoice, name: str, message: str, fix: str) -> Diagnostic:
    return RULE.at(tier.origin.of(name), message, fix=fix)
