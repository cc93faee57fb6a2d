"""What a rule rejects really fails, or silently does not do what was asked.

Each case is a profile of tests/errors, compiled with every rule switched off, which only a test can
do, and put before the engines' own code: their parsers, configurations and connectors. All in one
start of the stack's Python, since importing vLLM is nearly all the time that it takes. Beside each
stands a profile that is accepted, so that a question which always fails would show.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import compiler.rules.tables
from compiler.emit.bundle import emit
from compiler.library import library, templates
from compiler.pipeline import compile_profile
from compiler.plan import Plan
from compiler.process import Kind, Process
from compiler.stacks.stack import Option
from tests.engine.conftest import ROOT

pytestmark = pytest.mark.engine

ERRORS = ROOT / "tests" / "errors"
ASK = Path(__file__).parent / "ask_engines.py"
CPU = ("accelerator=cpu", "stack=vllm-0.32", "lmcache.cpu_cache_gb=0.5", "deploy.first_port=18100")


@dataclass(frozen=True)
class Case:
    """A rejected profile, the question it is put as, and what the engines answer.

    accepted: overrides with which the same profile is right, or a profile of its own.
    """

    profile: str
    ask: str
    says: str
    accepted: tuple[str, ...] | str
    set: tuple[str, ...] = ()
    more: tuple[str, ...] = ()


ARGS = "workers[0].engine_args"
CASES = (
    Case("engine-args/unknown-far", "config", r"unrecognized arguments", (f"{ARGS}={{}}",)),
    Case("engine-args/choice", "config", r"invalid choice", (f"{ARGS}={{}}",)),
    Case("engine-args/bounds", "config", r"greater than", (f"{ARGS}={{max_num_seqs: 1}}",)),
    Case(
        "engine-args/above-bound",
        "config",
        r"less than or equal to 1",
        (f"{ARGS}.gpu_memory_utilization=0.9",),
    ),
    Case(
        "engine-args-together/batch",
        "config",
        r"must be greater than or equal to max_num_seqs",
        (f"{ARGS}.max_num_batched_tokens=64",),
    ),
    Case(
        "engine-args-together/whole-prompts",
        "config",
        r"This effectively limits the maximum sequence length",
        (f"{ARGS}.max_num_batched_tokens=8192",),
    ),
    Case(
        "engine-args-together/longer-than-prompts",
        "config",
        r"max_num_active_seqs \(300\) cannot be greater|long_prefill_token_threshold",
        (f"{ARGS}={{long_prefill_token_threshold: 100}}",),
    ),
    Case(
        "engine-args-together/needs",
        "config",
        r"enable-auto-tool-choice requires --tool-call-parser",
        (f"{ARGS}={{numa_bind: false}}",),
    ),
    Case(
        "engine-args-together/needs-value",
        "config",
        r"disable_any_whitespace is only supported|Stochastic rounding for Mamba cache requires",
        (f"{ARGS}={{structured_outputs_config: {{backend: guidance}}}}",),
    ),
    Case(
        "engine-args-together/twice",
        "config",
        r"enable-per-request-metrics requires",
        (f"{ARGS}={{}}",),
    ),
    Case(
        "engine-args-together/adapters",
        "config",
        r"max_cpu_loras \(2\) must be >= max_loras \(4\)",
        (f"{ARGS}.max_cpu_loras=4",),
    ),
    Case(
        "model-limits/max-len",
        "config",
        r"max_model_len \(131072\) is greater than the derived max_model_len",
        ("model.max_len=8192",),
    ),
    Case(
        "model-limits/heads",
        "config",
        r"Total number of attention heads \(4\) must be divisible by tensor parallel size \(3\)",
        ("workers[0].tensor_parallel_size=2",),
    ),
    Case(
        "context-parallel/divides",
        "config",
        r"must be divisible by dcp_size",
        (f"{ARGS}={{}}",),
    ),
    Case(
        "context-parallel/kv-heads",
        "config",
        r"total number of KV heads",
        (f"{ARGS}={{}}",),
    ),
    Case(
        "pairing/both-sides",
        "handshake",
        r"NIXL compatibility hash mismatch",
        ("workers[1].engine_args.dtype=half",),
    ),
    Case(
        "pairing/first-side-default",
        "handshake",
        r"NIXL compatibility hash mismatch",
        ("workers[1].engine_args.kv_cache_dtype=auto",),
    ),
    Case("kv-cache-layout/not-copied", "layout", r"NotImplementedError", "agg-cpu"),
    Case("environment/unknown", "config", r"VLLM_LOGING_LEVEL", ("workers[0].env={}",)),
    Case(
        "internal-ports/uri",
        "variable",
        r"appears to be a URI",
        ("workers[0].env.VLLM_PORT=21000",),
        more=("VLLM_PORT",),
    ),
    Case(
        "lmcache-environment/values",
        "lmcache",
        r"max_local_disk_size=None, lookup_timeout_ms=None, enable_async_loading=False",
        (
            "workers[0].env={LMCACHE_MAX_LOCAL_DISK_SIZE: 10, LMCACHE_LOOKUP_TIMEOUT_MS: 3000,"
            " LMCACHE_ENABLE_ASYNC_LOADING: 'true'}",
        ),
        more=("max_local_disk_size", "lookup_timeout_ms", "enable_async_loading"),
    ),
    Case(
        "lmcache-environment/misspelt",
        "lmcache",
        r"ok: lookup_timeout_ms=3000, save_decode_cache=False",
        ("workers[0].env={LMCACHE_LOOKUP_TIMEOUT_MS: 1000, LMCACHE_SAVE_DECODE_CACHE: 'true'}",),
        more=("lookup_timeout_ms", "save_decode_cache"),
    ),
    Case(
        "lmcache-settings/prefill-decode",
        "lmcache",
        r"AssertionError: $",
        ("workers[0].env={}",),
        more=("enable_pd",),
    ),
    Case("socket-path/base", "socket_path", r"too long|FileNotFound|OSError", "agg-cpu"),
    Case("in-process-on-cpu/worker", "in_process", r"No supported cpu connector found", ""),
    Case(
        "port-conflict/with-frontend",
        "one_port",
        r"2 servers listen",
        "",
        set=("frontend.port=18000", "workers[0].port=18000"),
    ),
    Case(
        "kv-smaller-than-request/half-block",
        "room",
        r"To serve at least one request with the model's max seq len",
        (f"{ARGS}.kv_cache_memory_bytes=400000",),
        set=(f"{ARGS}.kv_cache_memory_bytes=180000",),
    ),
    Case(
        "chunk-size-alignment/cpu",
        "connector",
        r"must be a multiple of 128",
        ("lmcache.chunk_size=256", "deploy.first_port=18300"),
    ),
)


@pytest.fixture
def no_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Switch every rule off, and let an option that no engine has through to the engine's file."""
    monkeypatch.setattr(compiler.rules.tables, "TOPOLOGY_RULES", ())
    for table in ("STACK_RULES", "MODEL_RULES", "FOUND_RULES", "PLAN_RULES"):
        monkeypatch.setattr(compiler.rules.tables, table, ())

    class Options(dict[str, Option]):
        def __missing__(self, name: str) -> Option:
            return Option(flag=f"--{name}", types=("string",))

    stack = library().load_stack("vllm-0.32")
    monkeypatch.setitem(vars(stack), "engine_options", Options(stack.engine_options))


@pytest.mark.usefixtures("no_rules")
def test_engines_fail_on_what_is_rejected(prefix: Path, random_model: Path, tmp_path: Path) -> None:
    common = (*CPU, f"model.id={random_model}", f"deploy.prefix={prefix}")
    questions, labels = [], []
    plans: list[Plan] = []
    for number, case in enumerate(CASES):
        rejected = built(case.profile, (*common, *case.set), tmp_path / f"{number}-rejected")
        given = [(case, True, rejected)]
        if case.accepted:
            given.append((case, False, accepted(case, common, tmp_path / f"{number}-accepted")))
        for one, is_rejected, (plan, folder) in given:
            questions.append({"ask": one.ask, "of": asked(one, plan, folder)})
            labels.append((one, is_rejected))
            if one.ask == "connector":
                plans.append(plan)
    with cache_servers(plans, tmp_path):
        answers = ask(prefix, questions, tmp_path)
    wrong = []
    for (case, is_rejected), said in zip(labels, answers, strict=True):
        found = re.search(case.says, said, re.DOTALL) is not None
        if found != is_rejected or (not is_rejected and not said.startswith("ok: ")):
            wrong.append(f"{case.profile}, {'rejected' if is_rejected else 'accepted'}: {said}")
    assert not wrong, "\n".join(wrong)
    assert len({case.profile.partition("/")[0] for case in CASES}) >= 12


def built(name: str, overrides: tuple[str, ...], folder: Path) -> tuple[Plan, Path]:
    """Compile a rejected profile all the same, and write its bundle."""
    path = ERRORS / f"{name}.yaml" if "/" in name else ROOT / "profiles" / f"{name}.yaml"
    compiled = compile_profile(
        str(path), lambda one: Path(one).read_text("utf-8"), overrides, library()
    )
    assert compiled.resolved is not None, compiled.diagnostics
    plan = compiled.resolved.plan
    for artifact in emit(plan, templates()):
        (folder / artifact.path).parent.mkdir(parents=True, exist_ok=True)
        (folder / artifact.path).write_text(artifact.text, "utf-8")
    return plan, folder


def accepted(case: Case, common: tuple[str, ...], folder: Path) -> tuple[Plan, Path]:
    if isinstance(case.accepted, str):
        return built(case.accepted, common, folder)
    return built(case.profile, (*common, *case.set, *case.accepted), folder)


def asked(case: Case, plan: Plan, folder: Path) -> list[Any]:
    """Return what a question is about: workers, or the addresses of what listens."""
    workers = [process for process in plan.processes if process.kind is Kind.WORKER]
    if case.ask == "one_port":
        ports = [one.port for process in plan.processes for one in process.listens]
        return [["127.0.0.1", port] for port in ports if ports.count(port) > 1]
    count = 2 if case.ask == "handshake" else 1
    return [*(spoken(worker, folder) for worker in workers[:count]), *case.more]


def spoken(worker: Process, folder: Path) -> dict[str, Any]:
    argv = [str(folder / word) if word.startswith("engine/") else word for word in worker.argv]
    env = {name: value for name, value in worker.env.items() if name not in ("PATH", "LANG")}
    env.pop("LMCACHE_CONFIG_FILE", None)  # the variables alone are asked about
    return {"argv": argv, "env": env}


@contextmanager
def cache_servers(plans: list[Plan], folder: Path) -> Iterator[None]:
    """Run the cache servers of some plans, each on ports of its own."""
    running: list[tuple[subprocess.Popen[bytes], str]] = []
    for plan in plans:
        server = next(one for one in plan.processes if one.kind is Kind.CACHE_SERVER)
        with (folder / f"{len(running)}.log").open("w") as log:
            process = subprocess.Popen(
                server.argv, env=dict(server.env), stdout=log, stderr=log, start_new_session=True
            )
        running.append((process, server.ready.url))
    try:
        for process, url in running:
            for _ in range(300):
                assert process.poll() is None
                try:
                    urllib.request.urlopen(url, timeout=5).close()
                    break
                except OSError:
                    time.sleep(0.2)
        yield
    finally:
        for process, _ in running:
            process.send_signal(signal.SIGTERM)
        for process, _ in running:
            process.wait(timeout=60)


def ask(prefix: Path, questions: list[dict[str, Any]], folder: Path) -> list[str]:
    (folder / "questions.json").write_text(json.dumps(questions), "utf-8")
    python = prefix / "stacks" / "vllm-0.32" / "bin" / "python"
    env = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "HF_HUB_OFFLINE": "1", "LANG": "C.UTF-8"}
    done = subprocess.run(
        [str(python), str(ASK), "questions.json", "answers.json"],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found: list[str] = json.loads((folder / "answers.json").read_text("utf-8"))
    return found
