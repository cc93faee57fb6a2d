"""What one prompt did to the counters of workers and cache servers, as numbers to judge."""

from __future__ import annotations

from dataclasses import dataclass

from compiler.deploy.verify.snapshot import Snapshot
from compiler.process import Process

LOADED = "vllm:external_prefix_cache_hits_total"
ASKED = "vllm:external_prefix_cache_queries_total"
OWN = "vllm:prefix_cache_hits_total"
COMPUTE_S = "vllm:request_prefill_time_seconds_sum"
"""A worker's own counters, in tokens and seconds (vllm 0.32.0 vllm/v1/metrics/loggers.py)."""
MOVED_BYTES = "vllm:nixl_bytes_transferred_sum"
MOVED_S = "vllm:nixl_xfer_time_seconds_sum"
MOVES = "vllm:nixl_xfer_time_seconds_count"
FAILURES = ("vllm:nixl_num_failed_transfers_total", "vllm:nixl_num_kv_expired_reqs_total")
"""NIXL's, of the worker that reads (vllm 0.32.0 kv_connector/v1/nixl/metrics.py)."""
FOUND = "lmcache_mp_lookup_hit_tokens_total"
"""A cache server's (lmcache 0.5.6, seen at /metrics of its HTTP port)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """The prompt that is sent: its length and a chunk's, in tokens."""

    tokens: int
    chunk: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheSample:
    """One repeated prompt on one worker; tokens, None where a counter is not there.

    stored_objects: what its first run added to the cache server, where ranks store one each for a
    chunk. loaded, own: what LMCache and the
    engine's own cache served when it was repeated. found: what the cache server found of it then.
    receives: whether NIXL brings this worker its KV; the same counter counts that too.
    """

    worker: str
    server: str
    probe: Probe
    ranks: int
    stored_objects: int | None
    asked: float | None
    loaded: float | None
    own: float | None
    found: float | None
    receives: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferSample:
    """What NIXL brought to one worker: bytes, transfers, a rank's seconds together, failures.

    Its ranks read their parts at the same time, and its counters add them up. first_s: the transfer
    of a prompt that was new; compute_s: what computing that prompt took on the prefill worker. Both
    None where unknown.
    """

    worker: str
    ranks: int
    moved_bytes: float | None
    moves: float
    moved_s: float
    failures: float
    first_s: float | None
    compute_s: float | None


def cache_sample(
    worker: Process,
    server: Process | None,
    probe: Probe,
    between: tuple[Snapshot, Snapshot],
    stored_objects: int | None,
) -> CacheSample:
    """Read what a repeated prompt did between two moments."""
    before, after = between
    name = worker.name
    return CacheSample(
        worker=name,
        server=server.name if server else name,
        probe=probe,
        ranks=worker.ranks,
        stored_objects=stored_objects,
        asked=after.grown(before, name, ASKED),
        loaded=after.grown(before, name, LOADED),
        own=after.grown(before, name, OWN),
        found=after.grown(before, server.name, FOUND) if server else None,
    )


def transfer_sample(
    worker: Process, start: Snapshot, stored_at: Snapshot, after: Snapshot, compute_s: float | None
) -> TransferSample:
    """Read NIXL's counters of a worker: of all prompts, and of the first alone."""
    name, ranks = worker.name, worker.ranks
    return TransferSample(
        worker=name,
        ranks=ranks,
        moved_bytes=after.grown(start, name, MOVED_BYTES),
        moves=after.grown(start, name, MOVES) or 0.0,
        moved_s=(after.grown(start, name, MOVED_S) or 0.0) / ranks,
        failures=sum(after.grown(start, name, metric) or 0.0 for metric in FAILURES),
        first_s=(stored_at.grown(start, name, MOVED_S) or 0.0) / ranks or None,
        compute_s=compute_s,
    )
