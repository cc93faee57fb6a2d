"""Work out what a plan's caches hold, and what its workers leave of their GPUs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from compiler.byte_units import GIB
from compiler.model.block_size import WorkerShape, worker_shape
from compiler.model.kv_shape import KvShape, fixed_room
from compiler.plan import Plan
from compiler.process import Process
from compiler.stacks.stack import Platform


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheBudget:
    """One cache: where it is, whose tokens it holds, and how many of them."""

    name: str
    workers: tuple[str, ...]
    total_bytes: int
    token_bytes: int
    chunk_tokens: int

    @property
    def tokens(self) -> int:
        """Return the tokens that whole chunks of the cache have room for."""
        return self.total_bytes // self.chunk_bytes * self.chunk_tokens

    @property
    def chunk_bytes(self) -> int:
        """Return what one chunk takes."""
        return self.token_bytes * self.chunk_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerBudget:
    """One engine: what each of its ranks takes.

    weights_bytes: as the model's files have it, divided over the ranks; None where they are not
    here. kv_bytes: the room for KV where the profile fixes it, else None: what the GPU leaves.
    """

    name: str
    gpus: tuple[str, ...]
    gpu_fraction: float
    ranks: int
    weights_bytes: int | None
    token_bytes: int
    block_tokens: int
    kv_bytes: int | None

    def tokens(self, room: int) -> int:
        """Return the tokens that whole blocks of so many bytes have room for."""
        return max(0, room) // (self.token_bytes * self.block_tokens) * self.block_tokens

    def room_on(self, gpu_bytes: int) -> int:
        """Return what a GPU leaves for KV before activations and CUDA graphs take their part."""
        return int(gpu_bytes * self.gpu_fraction) - (self.weights_bytes or 0)


def cache_budgets(plan: Plan, shape: KvShape, platform: Platform) -> tuple[CacheBudget, ...]:
    """Return every cache of a plan: its cache servers, or its workers with a cache inside.

    Shape:  in process each rank keeps its own part in memory of its own, so that one rank's share
            says how many tokens fit.
    Errors: Unknown where a worker's KV has a size that is not known.
    """
    cache, total = plan.lmcache, int(plan.lmcache.cpu_cache_gb * GIB)
    if not cache.enabled:
        return ()
    return tuple(
        CacheBudget(
            name=str(owner),
            workers=tuple(str(worker.name) for worker in served),
            total_bytes=total,
            token_bytes=max(
                _split(shape, worker, platform).cached_bytes(cache.mode) for worker in served
            ),
            chunk_tokens=cache.chunk_size,
        )
        for owner, served in plan.caches.items()
    )


def worker_budgets(
    plan: Plan, shape: KvShape, weights_bytes: int | None, platform: Platform
) -> tuple[WorkerBudget, ...]:
    """Return every worker of a plan.

    Errors: Unknown where a worker's KV has a size that is not known.
    """
    found = []
    for worker in plan.workers:
        ranks, args = worker.ranks, worker.launch.engine_args
        found.append(
            WorkerBudget(
                name=str(worker.name),
                gpus=worker.gpus,
                gpu_fraction=worker.memory.gpu_fraction,
                ranks=ranks,
                weights_bytes=None if weights_bytes is None else weights_bytes // ranks,
                token_bytes=shape.rank_bytes(ranks, shape.value_bytes(args)),
                block_tokens=_split(shape, worker, platform).block_tokens,
                kv_bytes=fixed_room(plan.accelerator, worker.env, args),
            )
        )
    return tuple(found)


def _split(shape: KvShape, worker: Process, platform: Platform) -> WorkerShape:
    return worker_shape(shape, worker.ranks, worker.launch.engine_args, platform)


def host_claims(plan: Plan) -> Iterator[tuple[str, int, int]]:
    """Return each process that takes host memory for KV: its name, its ranks, bytes in all."""
    for process in plan.processes:
        if process.memory.host_bytes:
            yield str(process.name), process.ranks, process.memory.host_bytes
