"""Make the kit that travels to a GPU machine: the rig, and bundles of this checkout's profiles."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.fault_injection import rewritten
from benchmarks.gpu import beat, kinds, tcp, trace
from benchmarks.gpu.faults import ON_CPU, ON_CUDA, WRONG_ANSWERS, Fault
from benchmarks.gpu.rig.exact import BY_ID
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
    CHUNK_SIZE,
    ENGINE_ENV,
    NO_MULTICAST,
    SHAPE,
    UNCACHED_SHAPE,
    Bundle,
    Bundles,
    Env,
    Given,
    engine,
    for_cpu,
    large,
    on_gpu,
    options,
    small,
)
from compiler.library import load_stack
from compiler.stacks.combinations import Combination, Known, all_known
from compiler.topology import Accelerator, CacheMode, TopologyKind

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
FOR_CPU = {"VLLM_CPU_KVCACHE_SPACE": "1"}
FOR_GPU, CHOSEN = NO_MULTICAST, "CUDA_VISIBLE_DEVICES"
PAGE_STACK = "vllm-0.25"
"""The newest stack where the reference page's form, LMCache in process, answers rightly."""
# The engine without a cache that Dynamo's deployments are checked against.
VLLM_SERVER = ["-m", "vllm.entrypoints.openai.api_server", "--model", "{model}"]
Here = Mapping[Combination, Known]
"""How the stack's combinations stand on the kit's accelerator."""
OTHERS = ("timed-", "fault-", "tier-", "four-", "beat-", "trace-", "kind-", "tcp-")
"""How bundles begin that are not launched by the suite prove."""
WRONG = "in-process-wrong-kv"
"""A case whose combinations are built all the same, to see that it is true."""


@dataclass(frozen=True, slots=True)
class Form:
    """A deployment that is launched to show whether it caches rightly: a profile, made small.

    workers: how many groups of them the profile has.
    """

    profile: str
    workers: int
    combination: Combination

    @property
    def given(self) -> Given:
        """Return what differs from the profile."""
        return {"lmcache.mode": self.combination.mode.value}


AGG, DISAGG = TopologyKind.AGG, TopologyKind.DISAGG
SERVER, INSIDE = CacheMode.MULTIPROCESS, CacheMode.IN_PROCESS
FORMS: Mapping[str, Form] = {
    "agg": Form("agg", 1, Combination(topology=AGG, mode=SERVER)),
    "agg-in-process": Form("agg-in-process", 1, Combination(topology=AGG, mode=INSIDE)),
    "disagg": Form("disagg-one-gpu", 2, Combination(topology=DISAGG, mode=SERVER)),
    "disagg-in-process": Form("disagg-one-gpu", 2, Combination(topology=DISAGG, mode=INSIDE)),
}
# Dynamo's frontend gives no more (its lib/llm/src/protocols/openai/validate.rs, MAX_LOGPROBS), and
# names tokens by their text alone.
FIVE = {"logprobs": 5}
# Each tier on its own, in this folder of the prefix or at a port below the bundles' first one.
TIERS_FOLDER, REDIS_PORT, MOONCAKE_PORT, SPARE_PORT = "tiers", -1, -2, -10
COMPLETES = {"DYN_ENDPOINT_TYPES": "completions"}  # the made model has no chat template


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Where a kit runs: prefix, of engines and models; gpu, of all but what takes two."""

    prefix: Path
    stack: str
    accelerator: str
    gpu: int = 0
    first_port: int = 20000


def prepare(kit: Path, machine: Machine) -> None:
    """Write the kit folder; two kits with other first ports and GPUs run beside each other."""
    prefix, stack_name, accelerator = machine.prefix, machine.stack, machine.accelerator
    stack = load_stack(stack_name)
    platform = stack.platforms[accelerator]
    for folder in ("benchmarks/gpu", "demo", "compiler", "schemas", "templates"):
        skip = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, kit / folder, dirs_exist_ok=True, ignore=skip)
    shutil.copy(ROOT / "benchmarks/__init__.py", kit / "benchmarks/__init__.py")
    for script in ("run.sh", "install_engines.sh"):
        shutil.copy(HERE / script, kit / script)
    on_cpu = accelerator == "cpu"
    models = {name: f"{prefix}/models/{name}" for name in ("tiny", "8b")}
    kinds_folder = kinds.write(prefix / "models")
    is_dynamo = bool(stack.discovery)
    here = {known.combination: known for known in all_known(stack, Accelerator(accelerator))}
    forms = {f"dynamo-{name}" if is_dynamo else name: form for name, form in FORMS.items()}
    refused = [name for name, form in forms.items() if _is_wrong(here[form.combination])]
    faults = {} if is_dynamo else ON_CPU if on_cpu else _offered(ON_CUDA, here)
    if on_cpu:
        profile = "dynamo-agg-cpu" if is_dynamo else "agg-cpu"
        profiles = {profile: profile} | {name: fault.profile for name, fault in faults.items()}
        bundles = rehearsed(models, profiles, is_dynamo=is_dynamo)
        if not is_dynamo:
            bundles = {**bundles, **tiered(machine, for_cpu(models), "agg-cpu")}
            bundles |= of_suites(models, kinds_folder, on_cpu=True)
    else:
        able = {n: f for n, f in forms.items() if n in refused or here[f.combination].case is None}
        one = proved(models, able, COMPLETES if is_dynamo else {})
        if not is_dynamo:
            one |= {**planted(models, faults, here), **timed(models, here)}
            if here[FORMS["agg-in-process"].combination].case is None:
                one |= tiered(machine, small(models, 1), "agg-in-process")
        bundles = on_gpu(one, machine.gpu)
        if not is_dynamo:
            bundles = {**bundles, **two_gpus(models, here), **four_gpus(models, here)}
            if here[FORMS["disagg"].combination].case is None:
                bundles |= of_suites(models, kinds_folder, on_cpu=False)
    shutil.rmtree(kit / "bundles", ignore_errors=True)
    for number, (name, (profile, given)) in enumerate(bundles.items()):
        first_port = machine.first_port + 100 * number
        common = {
            "name": name,
            "stack": stack_name,
            "deploy.prefix": str(prefix),
            "frontend.port": first_port,
            "deploy.first_port": first_port + 1,
        }
        without = WRONG if name in refused else ""
        _build(profile, kit / "bundles" / name, {**common, **given}, without)
    for name, fault in faults.items():
        fault.plant(kit / "bundles" / name)
    beat.rewrite(kit / "bundles", on_cpu=on_cpu)
    tcp.rewrite(kit / "bundles")
    for threads in (count for count in SERVER_THREADS if four_agg(count) in bundles):
        last = r"(--worker-registration-grace-seconds\n +\d+\n)"
        longer = rf"\g<1>    --max-workers\n    {threads}\n"
        rewritten(kit / "bundles" / four_agg(threads) / "bin/lmcache.sh", last, longer)
    named = partial(_named, bundles)
    content = {
        "stack": stack_name,
        "accelerator": accelerator,
        "python": f"{prefix}/stacks/{stack_name}/bin/python",
        "page_python": f"{prefix}/stacks/{stack_name if on_cpu else PAGE_STACK}/bin/python",
        "worker_argv": VLLM_SERVER if is_dynamo else [*platform.worker_argv[1:]],
        "likeliest": FIVE if is_dynamo else BY_ID,
        "cache_server_argv": ["--supported-transfer-mode", "auto"] if on_cpu else [],
        "env": ENGINE_ENV | (FOR_CPU if on_cpu else FOR_GPU | {CHOSEN: str(machine.gpu)}),
        "models": models,
        "chunk_size": CHUNK_SIZE,
        "spare_port": machine.first_port + SPARE_PORT,
        "proved": [
            name
            for name in bundles
            if not name.startswith(
                ("timed-", "fault-", "tier-", "four-", "beat-", "trace-", "kind-")
            )
            and name not in refused
        ],
        "proved_beat": [name for name in bundles if name.startswith("beat-right-")],
        "proved_on_four": [name for name in bundles if name.startswith("four-")],
        "refused": refused if not on_cpu else [],
        "kinds": named("kind-"),
        "kinds_folder": kinds_folder,
        "tcp": named("tcp-"),
        "tiers": named("tier-"),
        "faults": {
            **{name: fault.says for name, fault in faults.items()},
            **({} if on_cpu else dict.fromkeys(refused, WRONG_ANSWERS)),
        },
    }
    (kit / "kit.json").write_text(json.dumps(content, indent=1))


def _named(bundles: Bundles, start: str) -> list[str]:
    return [name for name in bundles if name.startswith(start)]


def of_suites(models: Mapping[str, str], kinds_folder: str, *, on_cpu: bool) -> Bundles:
    """Return the bundles of suites with a module of their own."""
    if on_cpu:
        found = {**beat.rehearsed(models), **trace.rehearsed(models), **tcp.rehearsed(models)}
        return {**found, **kinds.rehearsed(kinds_folder)}
    found = {**beat.bundles(models), **trace.bundles(models), **tcp.bundles(models)}
    return {**found, **kinds.bundles(kinds_folder)}


def proved(models: Mapping[str, str], forms: Mapping[str, Form], env: Env) -> dict[str, Bundle]:
    """Return the forms for one GPU, small enough to run side by side."""
    return {
        name: (form.profile, {**small(models, form.workers, env), **form.given})
        for name, form in forms.items()
    }


def planted(models: Mapping[str, str], faults: Mapping[str, Fault], here: Here) -> Bundles:
    """Return what faults are planted into, as small."""
    found = {}
    for name, fault in faults.items():
        given = small(models, fault.workers)
        if not fault.graphs:
            given |= engine(fault.workers, {"enforce_eager": True})
        if fault.mode is None:
            given |= beside_nixl(here)
        found[name] = (fault.profile, given)
    return found


def _is_wrong(known: Known) -> bool:
    return known.case is not None and known.case.id == WRONG


def _offered(faults: Mapping[str, Fault], here: Here) -> dict[str, Fault]:
    """Return the faults of the modes that the stack does not refuse."""
    modes = {None, *(form.mode for form in here if here[form].case is None)}
    return {name: fault for name, fault in faults.items() if fault.mode in modes}


def beside_nixl(here: Here) -> Given:
    """Return LMCache's mode in disaggregated deployments: a cache server, where that is right."""
    with_server = here[FORMS["disagg"].combination].case is None
    return FORMS["disagg" if with_server else "disagg-in-process"].given


def tiered(machine: Machine, given: Given, profile: str) -> Bundles:
    """Return one bundle for each tier; the suite starts the servers that they ask."""
    folder = f"{machine.prefix}/{TIERS_FOLDER}"
    redis, mooncake = (machine.first_port + port for port in (REDIS_PORT, MOONCAKE_PORT))
    tiers = {
        "disk": f"path: {folder}/disk, size_gb: 4",
        "fs": f"path: {folder}/fs",
        "redis": f"url: 'redis://127.0.0.1:{redis}', password_file: {folder}/redis-password",
        # The worker gives no memory: what it stores outlives it in that of another client.
        "mooncake": f"master: '127.0.0.1:{mooncake}', local_host: 127.0.0.1, segment_gb: 0",
    }
    if machine.accelerator == "cpu":
        del tiers["mooncake"]  # only in process
    found: dict[str, tuple[str, Given]] = {
        f"tier-{kind}": (profile, {**given, "lmcache.tiers": f"[{{{kind}: {{{options}}}}}]"})
        for kind, options in tiers.items()
    }
    if machine.accelerator != "cpu":  # so little memory that later prompts leave the disk alone
        found["tier-disk"] = (profile, {**found["tier-disk"][1], "lmcache.cpu_cache_gb": 0.05})
    return found


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


def rehearsed(
    models: Mapping[str, str], profiles: Mapping[str, str], *, is_dynamo: bool
) -> Bundles:
    """Return what a machine without a GPU can run of it; profiles by the names of their bundles."""
    given = for_cpu(models, COMPLETES if is_dynamo else None)
    return {name: (profile, given) for name, profile in profiles.items()}


def _build(profile: str, bundle: Path, given: Given, without: str) -> None:
    """Build a bundle; without: the case of the stack that would refuse it."""
    program = ["benchmarks.gpu.refused", without] if without else ["compiler"]
    command = [sys.executable, "-m", *program, "build", f"profiles/{profile}.yaml"]
    subprocess.run([*command, "-o", str(bundle), *options(given)], check=True, cwd=ROOT)
