"""Older Dynamo releases' own argument parsers take what is built for them.

Their Python packages alone are unpacked, beside the newest release's environment: Dynamo's options
are read by the release's own code, vLLM's by that environment's vLLM.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from compiler.library import load_stack
from compiler.plan import Plan
from compiler.process import Kind
from demo.cpu_stack import cache_folder
from tests.engine.conftest import Build, packages

pytestmark = pytest.mark.engine

READ = """
import importlib, json, os, sys
for line in sys.stdin:
    module, argv, env, names = json.loads(line)
    os.environ.update(env)
    sys.argv[1:] = argv
    found = importlib.import_module(module).parse_args()
    found = found[0] if isinstance(found, tuple) else found
    values = {name: getattr(found, name, None) for name in names}
    engine = getattr(found, "engine_args", None)
    transfer = getattr(engine, "kv_transfer_config", None)
    transfer = transfer.kv_connector if transfer else None
    print("read", json.dumps([values, transfer], default=str))
"""
PREFILL = ["lmcache", "nixl"]
FRONTEND = {"http_host": "127.0.0.1", "http_port": 8000, "router_mode": "kv"}
# What the release reads for each role, and the connector that it makes of it. 0.7 makes its own
# from connector_list when the engine starts.
EXPECTED: dict[str, dict[str, tuple[dict[str, Any], str | None]]] = {
    "dynamo-0.7": {
        "prefill": (
            {"is_prefill_worker": True, "is_decode_worker": False, "connector_list": PREFILL},
            None,
        ),
        "decode": (
            {"is_prefill_worker": False, "is_decode_worker": True, "connector_list": ["nixl"]},
            None,
        ),
    },
    "dynamo-1.0": {
        "prefill": ({"is_prefill_worker": True, "is_decode_worker": False}, "MultiConnector"),
        "decode": ({"is_prefill_worker": False, "is_decode_worker": True}, "NixlConnector"),
    },
    "dynamo-1.3": {
        "prefill": ({"disaggregation_mode": "DisaggregationMode.PREFILL"}, "MultiConnector"),
        "decode": ({"disaggregation_mode": "DisaggregationMode.DECODE"}, "NixlConnector"),
    },
}


@pytest.fixture(autouse=True)
def one_at_a_time() -> None:
    """Parsers listen nowhere: these tests need not wait for engines of other runs."""


def release(stack: str) -> Path:
    """Return the packages of a stack's Dynamo."""
    version = load_stack(stack).versions["ai-dynamo"]
    wanted = (f"ai-dynamo=={version}", f"ai-dynamo-runtime=={version}")
    return packages("dynamo-1.6", f"releases/ai-dynamo-{version}", *wanted)


def read_back(stack: str, plan: Plan, bundle: Path) -> dict[str, tuple[dict[str, Any], str | None]]:
    """Return what the release makes of each process: values by name, and a worker's connector."""
    asked, names = [], []
    for process in plan.processes:
        if process.kind is Kind.CACHE_SERVER:
            continue
        start = next(i for i, word in enumerate(process.argv) if word.startswith("dynamo."))
        is_worker = process.kind is Kind.WORKER
        module = "dynamo.vllm.args" if is_worker else "dynamo.frontend.main"
        role = process.role.value if process.role else ""
        wanted = list(EXPECTED[stack][role][0] if is_worker else FRONTEND)
        asked.append([module, process.argv[start + 1 :], dict(process.env), wanted])
        names.append(process.name)
    done = subprocess.run(
        [str(cache_folder() / "stacks/dynamo-1.6/bin/python"), "-c", READ],
        input="\n".join(map(json.dumps, asked)) + "\n",
        cwd=bundle,
        env={"PATH": os.environ["PATH"], "HOME": str(bundle), "PYTHONPATH": str(release(stack))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line[5:]) for line in done.stdout.splitlines() if line.startswith("read ")]
    return {name: (values, kv) for name, (values, kv) in zip(names, lines, strict=True)}


@pytest.mark.parametrize("stack", sorted(EXPECTED))
def test_an_older_releases_parsers_take_what_is_built(
    build: Build, dynamo_prefix: Path, random_model: Path, stack: str
) -> None:
    assert dynamo_prefix == cache_folder()
    asked = [f"stack={stack}", "lmcache.mode=in_process"]
    bundle, plan = build("dynamo-disagg-kv-router", random_model, *asked)
    found = read_back(stack, plan, bundle)
    assert found.pop("frontend") == (FRONTEND, None)
    assert found == {name: EXPECTED[stack][name.rpartition("-")[0]] for name in found}
    assert len(found) == 3
