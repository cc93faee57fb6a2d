"""What the suite `trace` makes of spans and of torch's traces."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gpu.rig.activities import summary
from benchmarks.gpu.rig.parts import Span, Window, parts, phases
from benchmarks.gpu.rig.trace_table import stages
from tests.support import ROOT

MS = 1_000_000
WARM = [
    ("aggregated-0", "add_request_async", 8, 8, None),
    ("aggregated-0", "add_request", 9, 10, None),
    ("aggregated-0", "schedule", 10, 12, 0),
    ("aggregated-0", "maybe_submit_lookup_request", 11, 11.5, None),
    ("aggregated-0", "check_lookup_result", 11.6, 11.7, None),
    ("lmcache", "lookup", 12, 13, None),
    ("aggregated-0", "check_lookup_result", 14, 15, 7936),
    ("aggregated-0", "batched_submit_retrieve_requests", 16, 17, 1),
    ("lmcache", "retrieve", 18, 20, None),
    ("lmcache", "mp.retrieve.end", 40, 40, 1_170_000_000),
    ("aggregated-0", "get_finished", 30, 30, 0),
    ("aggregated-0", "get_finished", 41, 42, 1),
    ("aggregated-0", "schedule", 43, 44, 64),
    ("aggregated-0", "execute_model", 45, 46, None),
    ("aggregated-0", "schedule", 46, 46.5, 1),
    ("aggregated-0", "update_from_output", 50, 51, 1),
]


def test_parts_add_up_to_the_wait_and_end_where_it_was_seen() -> None:
    spans = [Span(of, name, int(a * MS), int(b * MS), said) for of, name, a, b, said in WARM]
    spans.sort(key=lambda span: span.began)
    found = parts(spans, Window(0, 55 * MS), "agg")
    ended = {each["part"]: each["ended_ms"] for each in found}
    assert ended["until its answer is seen"] == 15
    assert ended["issued, while the first pieces are copied"] == 20
    assert ended["copied"] == 40
    assert ended["until the engine sees it"] == 42
    assert ended["until it is scheduled"] == 44
    assert ended["back to the client"] == 55
    assert sum(each["ms"] for each in found) == 55
    short = stages(found)
    assert short["lookup in the cache server"] == 5
    assert short["copied"] == 25
    assert round(sum(short.values()), 3) == 55


def test_the_servers_phases_are_summed_up_within_the_window() -> None:
    said = {"ms": 2.0, "bytes": 1000}
    spans = [Span("lmcache", "phase dma h2d", at * MS, (at + 2) * MS, said) for at in (5, 9, 90)]
    found = phases(spans, Window(0, 50 * MS))["phase dma h2d"]
    assert found == {"number": 2, "ms": 4.0, "bytes": 2000, "from_ms": 5.0, "to_ms": 11.0}


def activity(category: str, name: str, began: float, took: float, **arguments: int) -> object:
    return {"ph": "X", "cat": category, "name": name, "ts": began, "dur": took, "args": arguments}


def test_copies_are_told_in_bursts_with_their_gaps(tmp_path: Path) -> None:
    kind, size = "Memcpy HtoD (Pinned -> Device)", 50_000_000
    events = [
        activity("gpu_memcpy", kind, 0, 1000, bytes=size),
        activity("gpu_memcpy", kind, 1500, 1000, bytes=size),
        activity("gpu_memcpy", kind, 200_000, 2000, bytes=size),
        activity("gpu_memcpy", kind, 900_000, 1, bytes=8),
        activity("kernel", "attention", 300, 50),
        activity("cuda_runtime", "cudaMemcpyAsync", 0, 5),
    ]
    path = tmp_path / "lmcache.trace.json"
    path.write_text(json.dumps({"traceEvents": events}), "utf-8")
    found = summary(path)
    first, second = found["copies"]["HtoD (Pinned -> Device)"]
    assert (first["number"], first["bytes"], first["window_ms"]) == (2, 2 * size, 2.5)
    assert (first["busy_ms"], first["gaps_ms"], first["gb_per_s"]) == (2.0, 0.5, 40.0)
    assert (second["number"], second["gb_per_s"]) == (1, 25.0)
    assert found["kernels"][0]["busy_ms"] == 0.05
    assert found["calls"]["cudaMemcpyAsync"]["number"] == 1


PROGRAM = """
import time
from vllm.v1.engine.core import EngineCore

assert EngineCore().add_request(1) == 2
time.sleep(1)
"""


@pytest.mark.parametrize("asked", [True, False])
def test_wrapped_functions_leave_spans_where_they_are_asked_for(
    tmp_path: Path, asked: bool
) -> None:
    package = tmp_path / "site/vllm/v1/engine"
    package.mkdir(parents=True)
    for folder in (package, package.parent, package.parent.parent):
        (folder / "__init__.py").touch()
    source = "class EngineCore:\n    def add_request(self, number):\n        return number + 1\n"
    (package / "core.py").write_text(source, "utf-8")
    path = f"{ROOT / 'benchmarks/gpu/rig/spans'}:{tmp_path / 'site'}"
    said = {"RIG_SPANS": str(tmp_path), "RIG_NAME": "decode-0"} if asked else {}
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": path, **said}
    subprocess.run([sys.executable, "-c", PROGRAM], check=True, env=environment)
    rows = [
        json.loads(line)
        for found in tmp_path.glob("decode-0.*.jsonl")
        for line in found.read_text("utf-8").splitlines()
    ]
    assert [row[0] for row in rows] == (["add_request"] if asked else [])
