"""Bundles of the suites `beat-…`: what dync emits for two GPUs, and one choice changed in each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.fault_injection import rewritten
from benchmarks.gpu.rig.beat import WAVES
from benchmarks.gpu.rig.page import FORMS
from benchmarks.gpu.sizes import NO_MULTICAST, Bundles, Given, for_cpu, large, small

LAYOUT = "VLLM_KV_CACHE_LAYOUT"
EAGER = {"lmcache.mp.eager_prefetch": "true"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What a bundle differs in: of all its workers, of prefill alone, and of its cache server.

    given: other keys of the profile. server, connector and nixl are written into the built bundle:
    flags of `lmcache server`, options of LMCacheMPConnector and of NixlConnector.
    """

    args: Given = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    prefill: Given = field(default_factory=dict)
    given: Given = field(default_factory=dict)
    server: Mapping[str, int] = field(default_factory=dict)
    connector: Mapping[str, str] = field(default_factory=dict)
    nixl: Mapping[str, str] = field(default_factory=dict)


def _blocks(size: int) -> dict[str, object]:
    return {"block_size": size}


CHUNKS_OF_1024: Given = {"lmcache.chunk_size": 1024}
THREADS: Mapping[str, int] = {"--max-gpu-workers": 2, "--max-cpu-workers": 2}
CPU_THREADS: Mapping[str, int] = {"--max-cpu-workers": 4}
DISAGG: Mapping[str, Choice] = {
    "beat-disagg": Choice(),
    "beat-disagg-128": Choice(args=_blocks(128)),
    "beat-disagg-256": Choice(args=_blocks(256)),
    "beat-disagg-128-nhd": Choice(args=_blocks(128), env={LAYOUT: "NHD"}),
    "beat-disagg-128-eager": Choice(args=_blocks(128), connector=EAGER, server=CPU_THREADS),
    "beat-disagg-256-eager": Choice(args=_blocks(256), connector=EAGER, server=CPU_THREADS),
    "beat-disagg-128-chunk-1024": Choice(args=_blocks(128), given=CHUNKS_OF_1024),
    "beat-disagg-128-nixl-8": Choice(args=_blocks(128), nixl={"num_threads": "8"}),
    "beat-disagg-128-sync": Choice(args=_blocks(128), prefill={"async_scheduling": False}),
    "beat-disagg-128-steps": Choice(args=_blocks(128), prefill={"max_num_batched_tokens": 16384}),
}
"""Prefill and decode on a GPU each."""
AGG: Mapping[str, Choice] = {
    "beat-agg": Choice(),
    "beat-agg-threads": Choice(server=THREADS),
    "beat-agg-eager": Choice(connector=EAGER),
    "beat-agg-64": Choice(args=_blocks(64)),
    "beat-agg-64-threads": Choice(args=_blocks(64), server=THREADS),
    "beat-agg-64-threads-eager": Choice(args=_blocks(64), server=THREADS, connector=EAGER),
    "beat-agg-128-threads-eager": Choice(args=_blocks(128), server=THREADS, connector=EAGER),
    "beat-agg-hnd-threads-eager": Choice(env={LAYOUT: "HND"}, server=THREADS, connector=EAGER),
    "beat-agg-64-all-chunk-1024": Choice(
        args=_blocks(64), server=THREADS, connector=EAGER, given=CHUNKS_OF_1024
    ),
}
"""A whole worker on each GPU, both at one cache server."""
ONE: Mapping[str, Choice] = {
    "beat-one": Choice(),
    "beat-one-64": Choice(args=_blocks(64)),
    "beat-one-128": Choice(args=_blocks(128)),
    "beat-one-hnd": Choice(env={LAYOUT: "HND"}),
    "beat-one-eager": Choice(connector=EAGER),
    "beat-one-64-chunk-1024": Choice(args=_blocks(64), given=CHUNKS_OF_1024),
}
"""One worker and its cache server; three beside each other on each of two GPUs."""
RIGHT: Mapping[str, Choice] = {
    "beat-right-disagg-256": Choice(args=_blocks(256), connector=EAGER, server=CPU_THREADS),
    "beat-right-disagg-128-nhd": Choice(args=_blocks(128), env={LAYOUT: "NHD"}),
    "beat-right-agg-64": Choice(args=_blocks(64), connector=EAGER),
    "beat-right-agg-128": Choice(args=_blocks(128), server=THREADS),
    "beat-right-agg-hnd": Choice(env={LAYOUT: "HND"}),
}
"""Small ones, to see that a hit gives what computing gives."""
CHOICES: Mapping[str, Choice] = {**DISAGG, **AGG, **ONE, **RIGHT}
REHEARSED = {"beat-disagg": Choice(connector=EAGER, nixl={"num_threads": "8"}, server=THREADS)}
assert {*CHOICES, *FORMS} >= {name for names in WAVES.values() for name in names}


def bundles(models: Mapping[str, str]) -> Bundles:
    """Return all for two GPUs."""
    return {
        **{name: ("disagg", _pair(models, one)) for name, one in DISAGG.items()},
        **{name: ("agg-shared-cache", _worker(models, one)) for name, one in AGG.items()},
        **{
            name: ("agg", {**_worker(models, one), "workers[0].gpus": f"[{number % 2}]"})
            for number, (name, one) in enumerate(ONE.items())
        },
        **{name: _small(models, name, one) for name, one in RIGHT.items()},
    }


def _worker(models: Mapping[str, str], choice: Choice) -> dict[str, object]:
    return {**large(models, 1, env=NO_MULTICAST), **choice.given, **_of_workers(1, choice)}


def _pair(models: Mapping[str, str], choice: Choice) -> dict[str, object]:
    return {**large(models, 2, env=NO_MULTICAST), **choice.given, **_of_workers(2, choice)}


def _small(models: Mapping[str, str], name: str, choice: Choice) -> tuple[str, Given]:
    profile, workers = ("disagg", 2) if "disagg" in name else ("agg", 1)
    given = {**small(models, workers, NO_MULTICAST), **choice.given, **_of_workers(workers, choice)}
    return profile, given


def _of_workers(workers: int, choice: Choice) -> dict[str, object]:
    """Spell out what all workers differ in, and the second, which is prefill."""
    found: dict[str, object] = {}
    for index in range(workers):
        args = {**choice.args, **(choice.prefill if index else {})}
        found |= {f"workers[{index}].engine_args.{key}": value for key, value in args.items()}
        found |= {f"workers[{index}].env.{key}": f'"{text}"' for key, text in choice.env.items()}
    return found


def rehearsed(models: Mapping[str, str]) -> Bundles:
    """Return what a machine without a GPU runs of it."""
    given = for_cpu(models)
    uncached = {"workers[1].engine_args.enable_prefix_caching": False}
    return {"beat-disagg": ("disagg-cpu", {**given, **uncached})}


def rewrite(folder: Path, *, on_cpu: bool) -> None:
    """Write into the built bundles what a profile cannot say."""
    for name, choice in (REHEARSED if on_cpu else CHOICES).items():
        if (folder / name).is_dir():
            _rewrite(folder / name, choice)


def _rewrite(bundle: Path, choice: Choice) -> None:
    if choice.server:
        flags = "".join(f"    {flag}\n    {value}\n" for flag, value in choice.server.items())
        for script in (bundle / "bin").glob("lmcache*.sh"):
            rewritten(script, r"--eviction-policy\n +\w+\n", rf"\g<0>{flags}")
    engines = [path for path in (bundle / "engine").glob("*.yaml") if ".no-" not in path.name]
    for path in engines:
        for key, value in choice.connector.items():
            if "LMCacheMPConnector" in path.read_text("utf-8"):
                before = r"( +)(lmcache\.mp\.port: \d+\n)"
                rewritten(path, before, rf"\g<1>\g<2>\g<1>{key}: {value}\n")
        for key, value in choice.nixl.items():
            before = r'([ -]+)kv_connector: "NixlConnector"\n( +)kv_role: "\w+"\n'
            option = rf"\g<2>kv_connector_extra_config:\n\g<2>  {key}: {value}\n"
            rewritten(path, before, rf"\g<0>{option}")
