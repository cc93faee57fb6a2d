"""Work out what a plan's caches hold, in tokens and in prompts of full length."""

from __future__ import annotations

from dataclasses import dataclass

from compiler.kv_shape import KvShape, Unknown, value_bytes
from compiler.plan import Kind, OffForm, Plan, Process
from compiler.topology import CacheMode

GIB = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheBudget:
    """One cache: where it is, whose tokens it holds, and how many of them.

    ranks: parts of a token's KV that are kept, each by a tensor-parallel rank.
    """

    name: str
    workers: tuple[str, ...]
    total_bytes: int
    token_bytes: int
    chunk_tokens: int

    @property
    def tokens(self) -> int:
        """Give the tokens that whole chunks of the cache have room for."""
        return self.total_bytes // self.chunk_bytes * self.chunk_tokens

    @property
    def chunk_bytes(self) -> int:
        """Give what one chunk takes."""
        return self.token_bytes * self.chunk_tokens


def cache_budgets(plan: Plan, shape: KvShape) -> tuple[CacheBudget, ...]:
    """Give every cache of a plan: its cache servers, or its workers with a cache inside.

    Shape:  a server keeps a token's parts of all ranks; in process each rank keeps its own part in
            memory of its own, so that one rank's share says how many tokens fit.
    Errors: Unknown where a worker's KV has a size that is not known.
    """
    cache, total = plan.lmcache, int(plan.lmcache.cpu_cache_gb * GIB)
    if not cache.enabled:
        return ()
    workers = [process for process in plan.processes if process.kind is Kind.WORKER]
    owners: list[tuple[Process, tuple[Process, ...]]]
    if cache.mode is CacheMode.IN_PROCESS:
        caching = [worker for worker in workers if worker.without_lmcache is not OffForm.SAME]
        owners = [(worker, (worker,)) for worker in caching]
    else:
        owners = [
            (server, tuple(worker for worker in workers if server.name in worker.after))
            for server in plan.processes
            if server.kind is Kind.CACHE_SERVER
        ]
    return tuple(
        CacheBudget(
            name=str(owner.name),
            workers=tuple(str(worker.name) for worker in served),
            total_bytes=total,
            token_bytes=max(_kept_bytes(worker, shape, cache.mode) for worker in served),
            chunk_tokens=cache.chunk_size,
        )
        for owner, served in owners
    )


def host_bytes(plan: Plan) -> int:
    """Give the host memory that all processes of a plan claim together for KV."""
    return sum(process.memory.host_bytes for process in plan.processes)


def _kept_bytes(worker: Process, shape: KvShape, mode: CacheMode) -> int:
    """Give what one cache keeps of one token of a worker."""
    given = worker.engine_args.get("tensor_parallel_size", 1)
    ranks = given if isinstance(given, int) else 1
    one = shape.rank_bytes(ranks, value_bytes(worker.engine_args))
    if mode is CacheMode.IN_PROCESS:
        return one
    if shape.is_latent and ranks > 1:
        raise Unknown("how often a cache server keeps a latent vector that all ranks have")
    return one * ranks
