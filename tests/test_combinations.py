"""Every topology in every mode on every stack: run, on paper and said so, or refused and why."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from compiler.diagnostic import Severity
from compiler.library import load_stack
from compiler.stacks.combinations import COMBINATIONS, Combination, Standing, known
from compiler.topology import Accelerator, TopologyKind
from tests.support import ROOT, compile_text

WRONG_KV, WRONG_BLOCKS = "in-process-wrong-kv", "multi-connector-wrong-blocks"
ON_CPU, NOT_OFFERED = "in-process-on-cpu", "multiprocess-not-offered"
# agg multiprocess, agg in_process, disagg multiprocess, disagg in_process
EXPECTED = {
    ("vllm-0.32", "cuda"): ("run", WRONG_KV, "run", WRONG_KV),
    ("vllm-0.32", "cpu"): ("run", ON_CPU, "run", ON_CPU),
    ("vllm-0.25", "cuda"): ("run", "run", WRONG_BLOCKS, "run"),
    ("dynamo-1.6", "cuda"): ("run", WRONG_KV, "run", WRONG_KV),
    ("dynamo-1.6", "cpu"): ("run", ON_CPU, "run", ON_CPU),
    ("dynamo-1.3", "cuda"): ("run", "run", WRONG_BLOCKS, "run"),
    ("dynamo-1.0", "cuda"): (NOT_OFFERED, "on paper", NOT_OFFERED, "on paper"),
    ("dynamo-0.7", "cuda"): (NOT_OFFERED, "on paper", NOT_OFFERED, "on paper"),
}
CASES = [
    (stack, accelerator, combination, expected)
    for (stack, accelerator), row in EXPECTED.items()
    for combination, expected in zip(COMBINATIONS, row, strict=True)
]


def profile(stack: str, accelerator: str, combination: Combination) -> str:
    """Write the smallest profile of a combination."""
    roles = ("aggregated",) if combination.topology is TopologyKind.AGG else ("decode", "prefill")
    on_gpu = accelerator == "cuda"
    return json.dumps(
        {
            "name": "small",
            "stack": stack,
            "topology": combination.topology.value,
            "accelerator": accelerator,
            "model": {"id": "Qwen/Qwen3-0.6B"},
            "lmcache": {"mode": combination.mode.value},
            "workers": [
                {"role": role, **({"gpus": [number]} if on_gpu else {})}
                for number, role in enumerate(roles)
            ],
        }
    )


def test_every_stack_and_accelerator_is_expected() -> None:
    names = sorted(path.stem for path in (ROOT / "schemas" / "stacks").glob("*.yaml"))
    shipped = {(name, item) for name in names for item in load_stack(name).platforms}
    assert set(EXPECTED) == shipped, "EXPECTED has a row for each platform of each stack"


@pytest.mark.parametrize(("stack", "accelerator", "combination", "expected"), CASES, ids=str)
def test_it_is_refused_or_accepted(
    stack: str, accelerator: str, combination: Combination, expected: str
) -> None:
    found = known(load_stack(stack), Accelerator(accelerator), combination)
    compiled = compile_text(profile(stack, accelerator, combination))
    errors = {item.rule for item in compiled.diagnostics if item.severity is Severity.ERROR}
    said = [item.rule for item in compiled.diagnostics if item.rule == "combination-on-paper"]
    if found.case is not None:
        assert found.case.id == expected
        assert errors == {expected}
    else:
        assert found.standing.value == expected
        assert not errors
    assert len(said) == (found.standing is Standing.ON_PAPER)


@pytest.mark.parametrize(("stack", "accelerator"), sorted(EXPECTED))
def test_a_run_is_of_a_combination_that_is_not_refused_and_says_by_what(
    stack: str, accelerator: str
) -> None:
    shipped = load_stack(stack)
    runs = shipped.platforms[accelerator].runs
    seen = [(run.topology, run.mode) for run in runs]
    words = {(item.topology.value, item.mode.value): item for item in COMBINATIONS}
    assert len(set(seen)) == len(seen)
    for run in runs:
        item = known(shipped, Accelerator(accelerator), words[run.topology, run.mode])
        assert item.standing is Standing.RUN
        assert (ROOT / run.by).exists()
        assert re.fullmatch(r"20\d\d-\d\d-\d\d", run.at)


def test_without_lmcache_nothing_is_said_of_a_mode() -> None:
    text = profile("dynamo-1.0", "cuda", COMBINATIONS[1])
    assert not compile_text(text.replace('"mode"', '"enabled": false, "mode"')).diagnostics


def test_the_readmes_table_is_the_stacks_data() -> None:
    tool = [sys.executable, str(ROOT / "tools" / "combinations_table.py"), "--print"]
    made = subprocess.run(tool, capture_output=True, text=True, check=True)
    page = (ROOT / "README.md").read_text("utf-8")
    assert made.stdout == page, "python tools/combinations_table.py"
