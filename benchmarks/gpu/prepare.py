"""Make the kit that travels to a GPU machine: the rig, and bundles of this checkout's profiles."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.fault_injection import rewritten
from benchmarks.gpu import beat, kinds, tcp, trace
from benchmarks.gpu.faults import ON_CPU, ON_CUDA, WRONG_ANSWERS, Fault
from benchmarks.gpu.forms import (
    FORMS,
    WRONG,
    Machine,
    is_wrong,
    offered,
    planted,
    proved,
    tiered,
)
from benchmarks.gpu.rig.exact import BY_ID
from benchmarks.gpu.rig.timing import SERVER_THREADS, four_agg
from benchmarks.gpu.sizes import (
    CHUNK_SIZE,
    ENGINE_ENV,
    NO_MULTICAST,
    Bundles,
    Given,
    for_cpu,
    on_gpu,
    options,
    small,
)
from benchmarks.gpu.timed import four_gpus, timed, two_gpus
from compiler.library import load_stack
from compiler.stacks.combinations import all_known
from compiler.stacks.stack import Stack
from compiler.topology import Accelerator

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
FOR_CPU = {"VLLM_CPU_KVCACHE_SPACE": "1"}
FOR_GPU, CHOSEN = NO_MULTICAST, "CUDA_VISIBLE_DEVICES"
PAGE_STACK = "vllm-0.25"
"""The newest stack where the reference page's form, LMCache in process, answers rightly."""
# The engine without a cache that Dynamo's deployments are checked against.
VLLM_SERVER = ["-m", "vllm.entrypoints.openai.api_server", "--model", "{model}"]
OTHERS = ("timed-", "fault-", "tier-", "four-", "beat-", "trace-", "kind-", "tcp-")
"""How bundles begin that are not launched by the suite prove."""
# Dynamo's frontend gives no more (its lib/llm/src/protocols/openai/validate.rs, MAX_LOGPROBS), and
# names tokens by their text alone.
FIVE = {"logprobs": 5}
SPARE_PORT = -10
COMPLETES = {"DYN_ENDPOINT_TYPES": "completions"}  # the made model has no chat template


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """What a kit holds for its stack: bundles, those refused but built, and planted faults."""

    bundles: Bundles
    refused: Sequence[str]
    faults: Mapping[str, Fault]

    def named(self, *starts: str) -> list[str]:
        """Return the bundles whose names begin so."""
        return [name for name in self.bundles if name.startswith(starts)]

    def proved(self) -> list[str]:
        """Return those that the suite prove launches."""
        others = {*self.named(*OTHERS), *self.refused}
        return [name for name in self.bundles if name not in others]


def prepare(kit: Path, machine: Machine) -> None:
    """Write the kit folder; two kits with other first ports and GPUs run beside each other."""
    stack = load_stack(machine.stack)
    for folder in ("benchmarks/gpu", "demo", "compiler", "schemas", "templates"):
        skip = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, kit / folder, dirs_exist_ok=True, ignore=skip)
    shutil.copy(ROOT / "benchmarks/__init__.py", kit / "benchmarks/__init__.py")
    for script in ("run.sh", "install_engines.sh"):
        shutil.copy(HERE / script, kit / script)
    models = {name: f"{machine.prefix}/models/{name}" for name in ("tiny", "8b")}
    kinds_folder = kinds.write(machine.prefix / "models")
    choose = _for_cpu if machine.accelerator == "cpu" else _for_gpus
    chosen = choose(machine, stack, models, kinds_folder)
    shutil.rmtree(kit / "bundles", ignore_errors=True)
    _write(kit / "bundles", machine, chosen)
    content = {**_said(machine, stack), "models": models, "kinds_folder": kinds_folder}
    (kit / "kit.json").write_text(json.dumps({**content, **_names(chosen)}, indent=1))


def _for_cpu(
    machine: Machine, stack: Stack, models: Mapping[str, str], kinds_folder: str
) -> Chosen:
    if stack.discovery:
        profiles = {"dynamo-agg-cpu": "dynamo-agg-cpu"}
        return Chosen(bundles=rehearsed(models, profiles, is_dynamo=True), refused=(), faults={})
    profiles = {"agg-cpu": "agg-cpu"} | {name: fault.profile for name, fault in ON_CPU.items()}
    bundles = {
        **rehearsed(models, profiles, is_dynamo=False),
        **tiered(machine, for_cpu(models), "agg-cpu"),
        **of_suites(models, kinds_folder, on_cpu=True),
    }
    return Chosen(bundles=bundles, refused=(), faults=ON_CPU)


def _for_gpus(
    machine: Machine, stack: Stack, models: Mapping[str, str], kinds_folder: str
) -> Chosen:
    is_dynamo = bool(stack.discovery)
    here = {known.combination: known for known in all_known(stack, Accelerator.CUDA)}
    forms = {f"dynamo-{name}" if is_dynamo else name: form for name, form in FORMS.items()}
    refused = [name for name, form in forms.items() if is_wrong(here[form.combination])]
    able = {n: f for n, f in forms.items() if n in refused or here[f.combination].case is None}
    one = proved(models, able, COMPLETES if is_dynamo else {})
    if is_dynamo:
        return Chosen(bundles=on_gpu(one, machine.gpu), refused=refused, faults={})
    faults = offered(ON_CUDA, here)
    one |= {**planted(models, faults, here), **timed(models, here)}
    if here[FORMS["agg-in-process"].combination].case is None:
        one |= tiered(machine, small(models, 1), "agg-in-process")
    several = {**two_gpus(models, here), **four_gpus(models, here)}
    if here[FORMS["disagg"].combination].case is None:
        several |= of_suites(models, kinds_folder, on_cpu=False)
    bundles = {**on_gpu(one, machine.gpu), **several}
    return Chosen(bundles=bundles, refused=refused, faults=faults)


def _write(folder: Path, machine: Machine, chosen: Chosen) -> None:
    """Build the bundles, and change those that a profile cannot ask for."""
    for number, (name, (profile, given)) in enumerate(chosen.bundles.items()):
        first_port = machine.first_port + 100 * number
        common = {
            "name": name,
            "stack": machine.stack,
            "deploy.prefix": str(machine.prefix),
            "frontend.port": first_port,
            "deploy.first_port": first_port + 1,
        }
        without = WRONG if name in chosen.refused else kinds.REFUSED.get(name, "")
        _build(profile, folder / name, {**common, **given}, without)
    for name, fault in chosen.faults.items():
        fault.plant(folder / name)
    beat.rewrite(folder, on_cpu=machine.accelerator == "cpu")
    tcp.rewrite(folder)
    for threads in (count for count in SERVER_THREADS if four_agg(count) in chosen.bundles):
        last = r"(--worker-registration-grace-seconds\n +\d+\n)"
        longer = rf"\g<1>    --max-workers\n    {threads}\n"
        rewritten(folder / four_agg(threads) / "bin/lmcache.sh", last, longer)
    for name in (name for name in chosen.named("kind-") if name.endswith("-together")):
        rewritten(folder / name / "bin/lmcache.sh", r"    --separate-object-groups\n", "")


def _said(machine: Machine, stack: Stack) -> Given:
    """Return what the rig must know of the machine and its stack."""
    prefix, on_cpu, is_dynamo = machine.prefix, machine.accelerator == "cpu", bool(stack.discovery)
    worker_argv = stack.platforms[machine.accelerator].worker_argv
    return {
        "stack": machine.stack,
        "accelerator": machine.accelerator,
        "python": f"{prefix}/stacks/{machine.stack}/bin/python",
        "page_python": f"{prefix}/stacks/{machine.stack if on_cpu else PAGE_STACK}/bin/python",
        "worker_argv": VLLM_SERVER if is_dynamo else [*worker_argv[1:]],
        "likeliest": FIVE if is_dynamo else BY_ID,
        "cache_server_argv": ["--supported-transfer-mode", "auto"] if on_cpu else [],
        "env": ENGINE_ENV | (FOR_CPU if on_cpu else FOR_GPU | {CHOSEN: str(machine.gpu)}),
        "chunk_size": CHUNK_SIZE,
        "spare_port": machine.first_port + SPARE_PORT,
    }


def _names(chosen: Chosen) -> Given:
    """Return which bundles each suite launches."""
    says = {name: fault.says for name, fault in chosen.faults.items()}
    return {
        "proved": chosen.proved(),
        "proved_beat": chosen.named("beat-right-"),
        "proved_on_four": chosen.named("four-"),
        "refused": chosen.refused,
        "kinds": chosen.named("kind-"),
        "tcp": chosen.named("tcp-"),
        "tiers": chosen.named("tier-"),
        "faults": {**says, **dict.fromkeys(chosen.refused, WRONG_ANSWERS)},
    }


def of_suites(models: Mapping[str, str], kinds_folder: str, *, on_cpu: bool) -> Bundles:
    """Return the bundles of suites with a module of their own."""
    if on_cpu:
        found = {**beat.rehearsed(models), **trace.rehearsed(models), **tcp.rehearsed(models)}
        return {**found, **kinds.rehearsed(kinds_folder)}
    found = {**beat.bundles(models), **trace.bundles(models), **tcp.bundles(models)}
    return {**found, **kinds.bundles(kinds_folder)}


def rehearsed(
    models: Mapping[str, str], profiles: Mapping[str, str], *, is_dynamo: bool
) -> Bundles:
    """Return what a machine without a GPU can run of it; profiles by the names of their bundles."""
    given = for_cpu(models, COMPLETES if is_dynamo else None)
    return {name: (profile, given) for name, profile in profiles.items()}


def _build(profile: str, bundle: Path, given: Given, without: str) -> None:
    """Build a bundle; without: the rule, or the case of the stack, that would refuse it."""
    program = ["benchmarks.gpu.refused", without] if without else ["compiler"]
    command = [sys.executable, "-m", *program, "build", f"profiles/{profile}.yaml"]
    subprocess.run([*command, "-o", str(bundle), *options(given)], check=True, cwd=ROOT)
