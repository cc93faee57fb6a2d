"""Print what a plan's caches hold, as a table."""

from __future__ import annotations

from collections.abc import Iterator

from compiler.kv_shape import KvShape
from compiler.memory_budget import GIB, CacheBudget, cache_budgets, host_bytes
from compiler.plan import Plan
from compiler.tier_budget import tier_budgets, unknown_tiers

_KIB, _MIB = 2**10, 2**20
_HEAD = ("cache", "for", "size", "KV a token", "a chunk", "tokens", "full prompts")


def memory_text(plan: Plan, shape: KvShape, max_len: int | None) -> str:
    """Give the table of one plan; max_len: the longest prompt plus answer, in tokens.

    Errors: Unknown, where the size of the KV cannot be told.
    """
    longest = max_len or shape.max_len
    budgets = cache_budgets(plan, shape)
    lines = [f"{plan.name}: {plan.model}, {_shape_text(shape)}"]
    rows = (*budgets, *tier_budgets(plan, budgets))
    lines += _aligned([_HEAD, *(_row(budget, longest) for budget in rows)]) if budgets else []
    if not budgets:
        lines.append("  no LMCache")
    lines += [f"  {tier}: how much it holds is not known here" for tier in unknown_tiers(plan)]
    lines.append(f"  host memory for KV in all: {_size(host_bytes(plan))}")
    lines += _advice(budgets, longest)
    return "".join(f"{line.rstrip()}\n" for line in lines)


def _shape_text(shape: KvShape) -> str:
    kept = f"{shape.heads} KV heads of {shape.head_size}"
    return f"{shape.layers} layers, {f'a latent of {shape.head_size}' if shape.is_latent else kept}"


def _row(budget: CacheBudget, longest: int | None) -> tuple[str, ...]:
    workers = budget.workers
    prompts = f"{budget.tokens / longest:,.1f}" if longest else "unknown"
    return (
        budget.name,
        workers[0] if len(workers) == 1 else f"{workers[0]} and {len(workers) - 1} more",
        _size(budget.total_bytes),
        _size(budget.token_bytes),
        _size(budget.chunk_bytes),
        f"{budget.tokens:,}",
        prompts,
    )


def _advice(budgets: tuple[CacheBudget, ...], longest: int | None) -> Iterator[str]:
    """Say what the chunk size means for the longest prompt."""
    if budgets and longest:
        chunk = budgets[0].chunk_tokens
        yield (
            f"  a prompt of {longest:,} tokens is {longest // chunk:,} chunks of {chunk} to look "
            f"up; up to {chunk - 1} tokens at its end are computed again"
        )


def _aligned(rows: list[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (
            cell.ljust(width) if at < 2 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  " + "  ".join(cells)


def _size(amount: int) -> str:
    """Give bytes in the largest unit of which there is one, as the engines count: powers of 2."""
    for unit, name in ((GIB, "GiB"), (_MIB, "MiB"), (_KIB, "KiB")):
        if amount >= unit:
            return f"{amount / unit:.4g} {name}"
    return f"{amount} B"
