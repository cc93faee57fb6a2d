"""Print what a plan's caches hold and its workers take, as tables."""

from __future__ import annotations

from collections.abc import Iterator

from compiler.byte_units import GIB, byte_text
from compiler.model.kv_shape import KvShape, shape_text
from compiler.model.memory_budget import (
    CacheBudget,
    WorkerBudget,
    cache_budgets,
    host_claims,
    worker_budgets,
)
from compiler.model.tier_budget import tier_budgets, unknown_tiers
from compiler.plan import Plan
from compiler.stacks.stack import Platform

_CACHE_HEAD = ("cache", "for", "size", "KV a token", "a chunk", "tokens", "full prompts")
_GPUS_GIB = (24, 48, 80, 141)
_ADVICE = (128, 256, 512, 1024)
Rows = list[tuple[str, ...]]


def memory_text(
    plan: Plan,
    shape: KvShape,
    max_len: int | None,
    weights_bytes: int | None,
    platform: Platform,
) -> str:
    """Return the tables of one plan.

    max_len: the longest prompt plus answer, in tokens. weights_bytes: the model's files; None where
    they are not here.
    Errors: Unknown, where the size of the KV cannot be told.
    """
    longest = max_len or shape.max_len
    budgets = cache_budgets(plan, shape, platform)
    workers = worker_budgets(plan, shape, weights_bytes, platform)
    lines = [f"{plan.name}: {plan.model}, {shape_text(shape)}"]
    if budgets:
        rows = (*budgets, *tier_budgets(plan, budgets))
        lines += _aligned([_CACHE_HEAD, *(_cache_row(budget, longest) for budget in rows)], 2)
    else:
        lines.append("  no LMCache")
    lines += [f"  {tier}: how much it holds is not known here" for tier in unknown_tiers(plan)]
    lines += ["", *_aligned(list(_worker_rows(workers)), 2)]
    lines += [*_remarks(workers), "", *_totals(plan)]
    lines += _chunks(plan, budgets, longest)
    return "".join(f"{line.rstrip()}\n" for line in lines)


def _cache_row(budget: CacheBudget, longest: int | None) -> tuple[str, ...]:
    workers = budget.workers
    return (
        budget.name,
        workers[0] if len(workers) == 1 else f"{workers[0]} and {len(workers) - 1} more",
        byte_text(budget.total_bytes),
        byte_text(budget.token_bytes),
        byte_text(budget.chunk_bytes),
        f"{budget.tokens:,}",
        f"{budget.tokens / longest:,.1f}" if longest else "unknown",
    )


def _worker_rows(workers: tuple[WorkerBudget, ...]) -> Iterator[tuple[str, ...]]:
    """Return a row a worker; its tokens where the room is fixed, or else by the size of a GPU."""
    is_fixed = all(worker.kv_bytes is not None or not worker.gpus for worker in workers)
    columns = ("KV room", "tokens") if is_fixed else [f"on {size} GiB" for size in _GPUS_GIB]
    yield ("worker", "on", "claims", "weights", "KV a token", *columns)
    for worker in workers:
        weights = worker.weights_bytes
        room = worker.kv_bytes
        if is_fixed:
            text = "vLLM's choice" if room is None else byte_text(room)
            cells = [text, "unknown" if room is None else f"{worker.tokens(room):,}"]
        elif weights is None:
            cells = ["unknown"] * len(_GPUS_GIB)
        else:
            cells = [f"{worker.tokens(worker.room_on(size * GIB)):,} tokens" for size in _GPUS_GIB]
        yield (
            worker.name,
            f"GPU {', '.join(worker.gpus)}" if worker.gpus else "host",
            f"{worker.gpu_fraction:g} of each" if worker.gpus else "",
            "unknown" if weights is None else byte_text(weights),
            byte_text(worker.token_bytes),
            *cells,
        )


def _remarks(workers: tuple[WorkerBudget, ...]) -> Iterator[str]:
    if any(worker.gpus and worker.kv_bytes is None for worker in workers):
        yield "  on a GPU: before activations and CUDA graphs, which vLLM measures when it starts"
    if any(worker.weights_bytes is None for worker in workers):
        yield "  weights: known where model.id is a folder with the model's files"


def _totals(plan: Plan) -> Iterator[str]:
    """Return the sums that a GPU or the host must have room for."""
    for gpu, claims in plan.gpu_claims.items():
        if len(claims) > 1:
            parts = " + ".join(f"{name} {share:g}" for name, share in claims.items())
            yield f"  GPU {gpu}: {parts} = {sum(claims.values()):g} of its memory"
    parts = " + ".join(
        f"{name} {ranks} x {byte_text(total // ranks)}"
        if ranks > 1
        else f"{name} {byte_text(total)}"
        for name, ranks, total in host_claims(plan)
    )
    total = byte_text(plan.host_bytes)
    yield f"  host memory for KV in all: {total}{f' = {parts}' if parts else ''}"
    shared = plan.shared_bytes
    if shared:
        yield f"  of it in /dev/shm, where that has room: {byte_text(shared)}"


def _chunks(plan: Plan, budgets: tuple[CacheBudget, ...], longest: int | None) -> Iterator[str]:
    """Check chunk sizes against each other for the longest prompt, the profile's own among them."""
    if not budgets or not longest:
        return
    own = plan.lmcache.chunk_size
    token = budgets[0].token_bytes
    yield ""
    rows: Rows = [("chunk_size", "a chunk", f"chunks of {longest:,} tokens", "computed again", "")]
    for size in sorted({own, *_ADVICE}):
        if size % plan.lmcache.chunk_multiple:
            continue
        suits = {128: "varied prompts", 256: "varied prompts"}.get(size, "")
        suits = {512: "repetitive prompts", 1024: "repetitive prompts"}.get(size, suits)
        mark = "this profile" if size == own else ""
        rows.append(
            (
                str(size),
                byte_text(token * size),
                f"{longest // size:,}",
                f"up to {size - 1}",
                ", ".join(part for part in (suits, mark) if part),
            )
        )
    yield from _aligned(rows, 0, 4)


def _aligned(rows: Rows, texts: int, *also: int) -> Iterator[str]:
    """Align columns: the first so many, and those named, are text; the others are figures."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (
            cell.ljust(width) if at < texts or at in also else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  " + "  ".join(cells)
