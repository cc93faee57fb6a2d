"""Bundles of the 8B shape that are timed: on one GPU, on two, and on four."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.gpu.forms import FORMS, Here, beside_nixl
from benchmarks.gpu.rig.nixl_pair import UCX_SAYS
from benchmarks.gpu.rig.timing import (
    BLOCK_SIZES,
    CHUNK_SIZES,
    FOUR_DISAGG,
    FOUR_WIDER_DECODE,
    SERVER_THREADS,
    four_agg,
)
from benchmarks.gpu.sizes import (
    NO_MULTICAST,
    SHAPE,
    UNCACHED_SHAPE,
    Bundle,
    Bundles,
    Given,
    large,
    small,
)


def timed(models: Mapping[str, str], here: Here) -> dict[str, Bundle]:
    """Return the deployments of the 8B shape that are timed; a cache's own is not the engine's."""
    cached = large(models, 1)
    sizes = {
        f"timed-chunk-{size}": ("agg", {**cached, "lmcache.chunk_size": size})
        for size in CHUNK_SIZES
    }
    blocks = {
        f"timed-disagg-blocks-{size}": (
            "disagg-one-gpu",
            {**large(models, 2, {**UNCACHED_SHAPE, "block_size": size}), **beside_nixl(here)},
        )
        for size in BLOCK_SIZES
    }
    is_right = here[FORMS["agg-in-process"].combination].case is None
    return {
        "timed-off": ("agg", {**large(models, 1, SHAPE), "lmcache.enabled": False}),
        **({"timed-in-process": ("agg-in-process", cached)} if is_right else {}),
        "timed-multiprocess": ("agg", cached),
        **sizes,
        **blocks,
    }


def two_gpus(models: Mapping[str, str], here: Here) -> Bundles:
    """Return what is timed on two GPUs: decode on 0 and prefill on 1, or a whole worker on each."""
    both = large(models, 2, env=UCX_SAYS | NO_MULTICAST)
    return {
        "timed-two-disagg": ("disagg", {**both, **beside_nixl(here)}),
        "timed-two-disagg-off": ("disagg", {**both, "lmcache.enabled": False}),
        "timed-two-agg": ("agg-shared-cache", large(models, 1, env=NO_MULTICAST)),
    }


def four_gpus(models: Mapping[str, str], here: Here) -> Bundles:
    """Return what is proved and timed on four GPUs.

    Decode on 0 and 1 beside prefill on 2 and 3, or on 2 alone, or two workers of two ranks. A
    profile cannot set the cache server's threads: the built bundles are changed.
    """
    both, one = {**beside_nixl(here), **_ranks(0, "[0, 1]", 2)}, _ranks(0, "[0, 1, 2, 3]", 2)
    even, wider_decode = {**both, **_ranks(1, "[2, 3]", 2)}, {**both, **_ranks(1, "[2]", 1)}
    timed_pair = large(models, 2, env=UCX_SAYS | NO_MULTICAST)
    timed_one = {**large(models, 1, env=NO_MULTICAST), **one}
    pair = small(models, 2, NO_MULTICAST)
    return {
        "four-disagg": ("disagg", {**pair, **even}),
        "four-disagg-wider-decode": ("disagg", {**pair, **wider_decode}),
        "four-agg": ("agg-shared-cache", {**small(models, 1, NO_MULTICAST), **one}),
        FOUR_DISAGG: ("disagg", {**timed_pair, **even}),
        FOUR_WIDER_DECODE: ("disagg", {**timed_pair, **wider_decode}),
        **{four_agg(threads): ("agg-shared-cache", timed_one) for threads in SERVER_THREADS},
    }


def _ranks(worker: int, gpus: str, ranks: int) -> Given:
    return {f"workers[{worker}].gpus": gpus, f"workers[{worker}].tensor_parallel_size": ranks}
