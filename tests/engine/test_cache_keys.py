"""LMCache's keys do not tell adapters and embeddings apart: seen in the answers of a real worker.

A request's cache_salt is in LMCache's key, so that the truth of each question comes from the same
start: asked under a salt that nothing else has.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu.kinds import KINDS
from compiler.plan import Plan
from compiler.process import Kind
from demo.client import Prompt, first_logprobs, long_prompt, metric
from demo.cpu_stack import launched
from tests.engine.conftest import ROOT
from tests.engine.test_rules_are_true import CPU, built, no_rules

pytestmark = [pytest.mark.engine, pytest.mark.long]
__all__ = ["no_rules"]

RIG = ROOT / "benchmarks" / "gpu" / "rig" / "make_kind.py"
HITS = "vllm:external_prefix_cache_hits_total"
WRONG, RIGHT = 0.4, 0.2
"""In log-probability; bfloat16 over other steps was apart by up to 0.08."""
EMBEDDINGS = """\
import base64, io, sys, torch
for seed in (1, 2):
    torch.manual_seed(seed)
    with io.BytesIO() as held:
        torch.save(torch.randn(300, 256, dtype=torch.bfloat16), held)
        print(base64.b64encode(held.getvalue()).decode())
"""
Ask = Callable[..., dict[str, float]]


@pytest.fixture(scope="module")
def kind(prefix: Path, random_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a small model with two adapters."""
    folder = tmp_path_factory.mktemp("kind")
    (folder / "config.json").write_text(json.dumps(KINDS["kind-adapters"].config), "utf-8")
    (folder / "kind.json").write_text('{"adapters": true}', "utf-8")
    python = prefix / "stacks" / "vllm-0.32" / "bin" / "python"
    subprocess.run([str(python), str(RIG), str(folder), str(random_model)], check=True)
    return folder


@pytest.mark.usefixtures("no_rules")
def test_what_has_no_key_of_its_own_is_answered_wrongly(
    prefix: Path, kind: Path, tmp_path: Path
) -> None:
    python = str(prefix / "stacks" / "vllm-0.32" / "bin" / "python")
    made = subprocess.run([python, "-c", EMBEDDINGS], check=True, capture_output=True, text=True)
    first, second = made.stdout.split()
    prompt = long_prompt("keys", 8)
    with serving(prefix, kind, tmp_path / "with", "lmcache.chunk_size=128") as (ask, hits):
        truth = {name: ask(name, prompt, cache_salt=f"truth-{name}") for name in ("b", "base")}
        embedded = ask("base", [], prompt_embeds=second, cache_salt="truth-embedded")
        ask("a", prompt)
        for name, right in truth.items():
            before = hits()
            wrong = ask(name, prompt)
            assert hits() > before
            assert apart(wrong, right) > WRONG
        ask("base", [], prompt_embeds=first)
        assert apart(ask("base", [], prompt_embeds=second), embedded) > WRONG
        for _ in range(2):  # the second time from LMCache, under the adapter's own key
            assert apart(ask("b", prompt, cache_salt="b"), truth["b"]) < RIGHT
    with serving(prefix, kind, tmp_path / "without", "lmcache.enabled=false") as (ask, _):
        ask("a", prompt)
        for name, right in truth.items():
            assert apart(ask(name, prompt), right) < RIGHT
        ask("base", [], prompt_embeds=first)
        assert apart(ask("base", [], prompt_embeds=second), embedded) < RIGHT


@contextmanager
def serving(
    prefix: Path, kind: Path, folder: Path, *overrides: str
) -> Iterator[tuple[Ask, Callable[[], float]]]:
    """Start a worker with two adapters; give how it is asked, and how many tokens have hit."""
    modules = ", ".join(f'"{name}={kind}/adapter-{name}"' for name in "ab")
    args = (
        "enforce_eager: true, enable_prefix_caching: false, enable_prompt_embeds: true, "
        f"enable_lora: true, max_loras: 2, lora_modules: [{modules}]"
    )
    given = (
        *CPU,
        f"model.id={kind}",
        "model.served_name=base",
        "model.max_len=4096",
        f"deploy.prefix={prefix}",
        f"workers[0].engine_args={{{args}}}",
        *overrides,
    )
    plan, _ = built("agg-cpu", given, folder)
    for path in folder.rglob("*.sh"):
        path.chmod(0o755)
    worker = next(one for one in plan.processes if one.kind is Kind.WORKER)
    with launched(folder):
        yield asking(plan), lambda: metric(worker.metrics, HITS)


def asking(plan: Plan) -> Ask:
    def ask(name: str, prompt: Prompt, **more: Any) -> dict[str, float]:
        return first_logprobs(plan.url, name, prompt, **more)

    return ask


def apart(one: dict[str, float], other: dict[str, float]) -> float:
    """Return by how much two answers differ; one that lacks a likely token has it at its least."""
    return max(abs(value - other.get(token, min(other.values()))) for token, value in one.items())
