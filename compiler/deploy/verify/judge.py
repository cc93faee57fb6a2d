"""Judge what was read: LMCache served, NIXL moved, cold and warm answers agree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from compiler.deploy.finding import Finding, failed, passed, skipped, warned
from compiler.deploy.verify.samples import CacheSample, TransferSample

AGREE, DIFFER = 0.1, 0.25
"""Log-probabilities of cold and warm: right ones move by at most 0.061 in bfloat16, wrong ones by
0.49 and more (benchmarks/gpu.md, LMCache's known wrong outputs)."""
_LOG_HINT = "read its log for the reason: dync logs BUNDLE {name}"


def judge_cache(sample: CacheSample) -> Iterator[Finding]:
    """Judge one worker's repeated prompt: stored, found, loaded; the engine's own cache apart."""
    yield from _judge_stored(sample)
    if sample.receives:
        yield skipped(
            "cache-load",
            sample.worker,
            "NIXL brings this worker its KV first; LMCache loads only what NIXL does not have",
        )
    elif sample.loaded is None:
        yield skipped(
            "cache-load", sample.worker, "its metrics have no vllm:external_prefix_cache_hits"
        )
    elif sample.loaded > 0:
        own = f", the engine's own cache {sample.own:.0f}" if sample.own else ""
        yield passed(
            "cache-load",
            sample.worker,
            f"LMCache served {sample.loaded:.0f} of {sample.probe.tokens} tokens of the repeated "
            f"prompt{own}",
        )
    elif sample.found and (sample.own or 0) >= sample.found:
        yield skipped(
            "cache-load",
            sample.worker,
            f"the cache server found {sample.found:.0f} tokens of the repeated prompt, and the "
            "engine's own cache had them all, as with layers that have a state: they are loaded "
            "once the engine has lost them",
        )
    else:
        yield failed("cache-load", sample.worker, _why_nothing(sample), _hint(sample))


def _judge_stored(sample: CacheSample) -> Iterator[Finding]:
    if sample.stored_objects is None:
        return
    wanted = sample.probe.tokens // sample.probe.chunk
    stored = whole_chunks(sample.stored_objects, wanted, sample.ranks)
    text = f"{stored} of {wanted} chunks of the new prompt were stored"
    if stored >= wanted:
        yield passed("cache-store", sample.server, text)
    elif stored > 0:
        yield warned("cache-store", sample.server, text, _hint(sample))
    else:
        yield failed("cache-store", sample.server, text, _hint(sample))


def whole_chunks(objects: int, wanted: int, ranks: int) -> int:
    """Return how many chunks these objects of a cache server are.

    Each rank's part of a chunk is one object, but latent attention has one for all ranks (lmcache
    0.5.6 vllm_multi_process_adapter.py, kv_world_size). At most one a chunk is taken for that;
    whether it was a rank that stored nothing, cache-load shows.
    """
    return objects if objects <= wanted else objects // ranks


def _why_nothing(sample: CacheSample) -> str:
    """Say how far the repeated prompt came."""
    by_itself = (
        f"; {sample.own:.0f} tokens came from the engine's own cache, which is not LMCache"
        if sample.own
        else ""
    )
    if not sample.asked:
        return f"the engine did not ask LMCache for the repeated prompt{by_itself}"
    if sample.found:
        return (
            f"the cache server found {sample.found:.0f} tokens of the repeated prompt and the "
            f"engine loaded none{by_itself}"
        )
    return f"LMCache served nothing of the repeated prompt{by_itself}"


def _hint(sample: CacheSample) -> str:
    return _LOG_HINT.format(name=sample.worker)


def judge_transfer(sample: TransferSample) -> Finding:
    """Judge what NIXL brought to one worker, and whether it was worth it."""
    if sample.moved_bytes is None:
        return skipped("nixl", sample.worker, "its metrics have no vllm:nixl_bytes_transferred")
    if sample.failures:
        return failed(
            "nixl",
            sample.worker,
            f"{sample.failures:.0f} NIXL transfers failed or expired",
            _LOG_HINT.format(name=sample.worker),
        )
    if not sample.moved_bytes:
        return failed(
            "nixl",
            sample.worker,
            "NIXL moved no byte: the worker computed the prompt itself",
            _LOG_HINT.format(name=sample.worker),
        )
    of_ranks = f" of {sample.ranks} ranks at once" if sample.ranks > 1 else ""
    moved = (
        f"NIXL moved {sample.moved_bytes / 1e6:.1f} MB in {sample.moves:.0f} transfers{of_ranks} "
        f"and {sample.moved_s * 1e3:.0f} ms{_rate(sample)}"
    )
    if sample.first_s and sample.compute_s and sample.first_s > sample.compute_s:
        return warned(
            "nixl",
            sample.worker,
            f"{moved}; a new prompt's KV took {sample.first_s * 1e3:.0f} ms, computing it "
            f"{sample.compute_s * 1e3:.0f} ms",
            "disaggregation costs more than it saves here: see which transport UCX took "
            "(UCX_LOG_LEVEL=info in workers[].env), give all workers a larger block_size, or use "
            "topology: agg",
        )
    return passed("nixl", sample.worker, moved)


def _rate(sample: TransferSample) -> str:
    if not sample.moved_s or sample.moved_bytes is None:
        return ""
    return f", {sample.moved_bytes / sample.moved_s / 1e9:.3g} GB/s"


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
