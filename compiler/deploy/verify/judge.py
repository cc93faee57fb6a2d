"""Judge what was read: LMCache served, NIXL moved, cold and warm answers agree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from compiler.deploy.finding import Finding, failed, passed, skipped, warned
from compiler.deploy.verify.samples import CacheReading, TransferReading

AGREE, DIFFER = 0.1, 0.25
"""Log-probabilities of cold and warm: right ones move by at most 0.061 in bfloat16, wrong ones by
0.49 and more (benchmarks/gpu.md, LMCache's known wrong outputs)."""
_LOG_HINT = "read its log for the reason: dync logs BUNDLE {name}"


def judge_cache(reading: CacheReading) -> Iterator[Finding]:
    """Judge one worker's repeated prompt: stored, found, loaded; the engine's own cache apart."""
    yield from _judge_stored(reading)
    if reading.receives:
        yield skipped(
            "cache-load",
            reading.worker,
            "NIXL brings this worker its KV first; LMCache loads only what NIXL does not have",
        )
    elif reading.loaded is None:
        yield skipped(
            "cache-load", reading.worker, "its metrics have no vllm:external_prefix_cache_hits"
        )
    elif reading.loaded > 0:
        own = f", the engine's own cache {reading.own:.0f}" if reading.own else ""
        yield passed(
            "cache-load",
            reading.worker,
            f"LMCache served {reading.loaded:.0f} of {reading.probe.tokens} tokens of the repeated "
            f"prompt{own}",
        )
    else:
        yield failed("cache-load", reading.worker, _why_nothing(reading), _hint(reading))


def _judge_stored(reading: CacheReading) -> Iterator[Finding]:
    if reading.stored_objects is None:
        return
    wanted = reading.probe.tokens // reading.probe.chunk
    stored = whole_chunks(reading.stored_objects, wanted, reading.ranks)
    text = f"{stored} of {wanted} chunks of the new prompt were stored"
    if stored >= wanted:
        yield passed("cache-store", reading.server, text)
    elif stored > 0:
        yield warned("cache-store", reading.server, text, _hint(reading))
    else:
        yield failed("cache-store", reading.server, text, _hint(reading))


def whole_chunks(objects: int, wanted: int, ranks: int) -> int:
    """Give how many chunks these objects of a cache server are.

    Each rank's part of a chunk is one object, but latent attention has one for all ranks (lmcache
    0.5.6 vllm_multi_process_adapter.py, kv_world_size). At most one a chunk is taken for that;
    whether it was a rank that stored nothing, cache-load shows.
    """
    return objects if objects <= wanted else objects // ranks


def _why_nothing(reading: CacheReading) -> str:
    """Say how far the repeated prompt came."""
    by_itself = (
        f"; {reading.own:.0f} tokens came from the engine's own cache, which is not LMCache"
        if reading.own
        else ""
    )
    if not reading.asked:
        return f"the engine did not ask LMCache for the repeated prompt{by_itself}"
    if reading.found:
        return (
            f"the cache server found {reading.found:.0f} tokens of the repeated prompt and the "
            f"engine loaded none{by_itself}"
        )
    return f"LMCache served nothing of the repeated prompt{by_itself}"


def _hint(reading: CacheReading) -> str:
    return _LOG_HINT.format(name=reading.worker)


def judge_transfer(reading: TransferReading) -> Finding:
    """Judge what NIXL brought to one worker, and whether it was worth it."""
    if reading.moved_bytes is None:
        return skipped("nixl", reading.worker, "its metrics have no vllm:nixl_bytes_transferred")
    if reading.failures:
        return failed(
            "nixl",
            reading.worker,
            f"{reading.failures:.0f} NIXL transfers failed or expired",
            _LOG_HINT.format(name=reading.worker),
        )
    if not reading.moved_bytes:
        return failed(
            "nixl",
            reading.worker,
            "NIXL moved no byte: the worker computed the prompt itself",
            _LOG_HINT.format(name=reading.worker),
        )
    of_ranks = f" of {reading.ranks} ranks at once" if reading.ranks > 1 else ""
    moved = (
        f"NIXL moved {reading.moved_bytes / 1e6:.1f} MB in {reading.moves:.0f} transfers{of_ranks} "
        f"and {reading.moved_s * 1e3:.0f} ms{_rate(reading)}"
    )
    if reading.first_s and reading.compute_s and reading.first_s > reading.compute_s:
        return warned(
            "nixl",
            reading.worker,
            f"{moved}; a new prompt's KV took {reading.first_s * 1e3:.0f} ms, computing it "
            f"{reading.compute_s * 1e3:.0f} ms",
            "disaggregation costs more than it saves here: see which transport UCX took "
            "(UCX_LOG_LEVEL=info in workers[].env), give all workers a larger block_size, or use "
            "topology: agg",
        )
    return passed("nixl", reading.worker, moved)


def _rate(reading: TransferReading) -> str:
    if not reading.moved_s or reading.moved_bytes is None:
        return ""
    return f", {reading.moved_bytes / reading.moved_s / 1e9:.3g} GB/s"


def judge_answers(subject: str, cold: Mapping[str, float], warm: Mapping[str, float]) -> Finding:
    """Judge whether the restored KV means the same: the first token's log-probabilities.

    Text may flip at a near tie; a wrong KV moves log-probabilities far.
    """
    common = cold.keys() & warm.keys()
    if not cold or not warm:
        return skipped("answers-agree", subject, "the server gives no log-probabilities")
    apart = max((abs(cold[token] - warm[token]) for token in common), default=float("inf"))
    top = max(cold, key=lambda token: cold[token])
    text = f"log-probabilities of the first token, cold and warm, differ by at most {apart:.3f}"
    if top not in common or apart > DIFFER:
        return failed(
            "answers-agree",
            subject,
            text if top in common else f"the likeliest token cold, {top!r}, is not likely warm",
            "what LMCache restores is not what was stored: do not serve from it; see the stack's "
            "known cases with dync stack show",
        )
    if apart > AGREE:
        return warned("answers-agree", subject, text, "more than bfloat16's own noise: try float32")
    return passed("answers-agree", subject, text)
