"""Bundles of the suite `trace`: ready ones of the 8B shape whose engines record when asked."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.gpu.sizes import NO_MULTICAST, Bundles, for_cpu, large

RECORDS = (
    "{{profiler: torch, torch_profiler_dir: traces/{name}, torch_profiler_with_stack: false, "
    "torch_profiler_use_gzip: false, torch_profiler_dump_cuda_time_total: false, "
    "ignore_frontend: true}}"
)
"""vLLM's own option (vllm 0.32.0, config/profiler.py); its folder is seen from the bundle's."""
SCOPES = {"VLLM_CUSTOM_SCOPES_FOR_PROFILING": "1"}


def bundles(models: Mapping[str, str]) -> Bundles:
    """Return one worker on GPU 0, and a pair on GPUs 0 and 1."""
    env = NO_MULTICAST | SCOPES
    return {
        "trace-agg": ("agg", {**large(models, 1, env=env), **_records("aggregated-0")}),
        "trace-disagg": (
            "disagg",
            {**large(models, 2, env=env), **_records("decode-0", "prefill-0")},
        ),
    }


def rehearsed(models: Mapping[str, str]) -> Bundles:
    """Return what a machine without a GPU runs of it."""
    given, scopes = for_cpu(models, SCOPES), {"workers[1].engine_args.enable_prefix_caching": False}
    return {
        "trace-agg": ("agg-cpu", {**given, **_records("aggregated-0")}),
        "trace-disagg": (
            "disagg-cpu",
            {**given, **scopes, **_records("decode-0", "prefill-0")},
        ),
    }


def _records(*workers: str) -> dict[str, object]:
    return {
        f"workers[{number}].engine_args.profiler_config": RECORDS.format(name=name)
        for number, name in enumerate(workers)
    }
