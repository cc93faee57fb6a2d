"""What a process's counters say that it did since its start."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from compiler.byte_units import GIB
from compiler.deploy.probe.cache_server import ServerStatus, server_status
from compiler.deploy.probe.counters import Counters, read_counters
from compiler.deploy.verify.samples import ASKED, FAILURES, LOADED, MOVED_BYTES, MOVED_S, OWN
from compiler.process import Kind, Process

_REQUESTS = ("vllm:request_success_total", "lmcache_mp_lookups_requests_total")
_BUSY = "vllm:num_requests_running"
_OWN_ASKED = "vllm:prefix_cache_queries_total"
_KV_USAGE = "vllm:kv_cache_usage_perc"
_SERVER_FOUND = "lmcache_mp_lookup_hit_tokens_total"
_SERVER_ASKED = "lmcache_mp_lookup_requested_tokens_total"
"""lmcache 0.5.6 and vllm 0.32.0, seen at their /metrics."""
_BEHIND = "lmcache_mp_l2_usage_bytes"
"""What the tiers behind a cache server hold, by l2_name (lmcache 0.5.6, seen)."""
_IN_PROCESS = "lmcache:local_cache_usage"
"""Bytes (lmcache 0.5.6 lmcache/observability.py, read)."""


@dataclass(frozen=True, slots=True)
class Hits:
    """Tokens that a cache had, of those it was asked for."""

    found: float
    asked: float

    @property
    def rate(self) -> float | None:
        """Return the share that hit, 0 to 1; None before the first question."""
        return self.found / self.asked if self.asked else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fill:
    """How full one tier of a cache is: bytes, or None where nobody says; share is 0 to 1."""

    tier: str
    used_bytes: int | None = None
    total_bytes: int | None = None
    share: float | None = None


@dataclass(frozen=True, slots=True)
class Moved:
    """What NIXL brought: bytes, seconds of all transfers together, transfers that failed."""

    total_bytes: float
    seconds: float
    failures: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """One process; None where it does not count such a thing."""

    requests: float | None = None
    busy: float | None = None
    engine_cache: Hits | None = None
    lmcache: Hits | None = None
    fills: tuple[Fill, ...] = ()
    nixl: Moved | None = None


def activity(process: Process, metrics: Mapping[str, str]) -> Activity:
    """Read what a process did; nothing is known of one that does not answer.

    metrics: the stack's names for what a worker asks LMCache for, as its status_metrics.
    """
    counters = read_counters(process.metrics)
    if counters is None:
        return Activity()
    if process.kind is Kind.CACHE_SERVER:
        return Activity(
            requests=_first(counters, _REQUESTS),
            lmcache=_hits(counters, _SERVER_FOUND, _SERVER_ASKED),
            fills=_server_fills(process, counters, server_status(process)),
        )
    if process.kind is not Kind.WORKER:
        return Activity()
    hit, asked = metrics.get("hit_tokens", LOADED), metrics.get("asked_tokens", ASKED)
    return Activity(
        requests=_first(counters, _REQUESTS),
        busy=counters.total(_BUSY),
        engine_cache=_hits(counters, OWN, _OWN_ASKED),
        # A worker without LMCache counts what NIXL brings it by the same metric.
        lmcache=_hits(counters, hit, asked) if process.has_lmcache else None,
        fills=tuple(_worker_fills(process, counters)),
        nixl=_moved(counters),
    )


def _first(counters: Counters, names: tuple[str, ...]) -> float | None:
    return next((value for value in map(counters.total, names) if value is not None), None)


def _hits(counters: Counters, found: str, asked: str) -> Hits | None:
    hit, looked_up = counters.total(found), counters.total(asked)
    return None if looked_up is None else Hits(hit or 0.0, looked_up)


def _moved(counters: Counters) -> Moved | None:
    moved = counters.total(MOVED_BYTES)
    if not moved and not any(counters.total(name) for name in FAILURES):
        return None
    failures = sum(counters.total(name) or 0.0 for name in FAILURES)
    return Moved(moved or 0.0, counters.total(MOVED_S) or 0.0, failures)


def _worker_fills(process: Process, counters: Counters) -> Iterator[Fill]:
    """Return the fill of the engine's own cache, and of LMCache where it runs in the worker."""
    share = counters.total(_KV_USAGE)
    if share is not None:
        yield Fill(tier="engine", share=share)
    used, size_gb = (
        counters.total(_IN_PROCESS),
        process.launch.lmcache_config.get("max_local_cpu_size"),
    )
    if used is not None:
        total = int(size_gb * GIB) if isinstance(size_gb, (int, float)) else None
        yield Fill(tier="cpu", used_bytes=int(used), total_bytes=total)


def _server_fills(
    process: Process, counters: Counters, seen: ServerStatus | None
) -> tuple[Fill, ...]:
    """Return the fill of a cache server's memory, and of each tier behind it as far as it says."""
    if seen is None:
        return ()
    memory = Fill(
        tier="cpu",
        used_bytes=seen.used_bytes,
        total_bytes=seen.total_bytes,
        share=seen.used_bytes / seen.total_bytes if seen.total_bytes else None,
    )
    tiers = process.tiers
    behind = counters.by_label(_BEHIND, "l2_name")
    each = zip(tiers, behind.items(), strict=True) if len(tiers) == len(behind) else ()
    named = [(tier.kind, tier.size_bytes, used) for tier, (_, used) in each]
    named = named or [(name, None, used) for name, used in behind.items()]
    return (
        memory,
        *(Fill(tier=name, used_bytes=int(used), total_bytes=size) for name, size, used in named),
    )
