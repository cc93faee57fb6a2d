"""Faults that leave every process healthy, on real engines: dync verify names each.

Healthy deployments are proved in test_deployments.py and test_dynamo.py, on those they start.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from benchmarks.fault_injection import by_hand, rewritten
from benchmarks.gpu.faults import CONNECTOR_ON_CPU
from compiler.cli.up import NOT_PROVED
from compiler.plan import Plan
from tests.engine.conftest import Build, answers, messages, proved, until

pytestmark = pytest.mark.engine

DYNC = [sys.executable, "-m", "compiler"]
TWO_WORKERS = "workers[0].replicas=2"


def healthy(plan: Plan, name: str) -> bool:
    """Ask a worker what a load balancer asks it."""
    port = next(process for process in plan.processes if process.name == name).ready.port
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=30) as answer:
        return bool(answer.status == 200)


def test_a_connector_that_never_caches_on_a_cpu(build: Build, random_model: Path) -> None:
    bundle, _ = build("agg-cpu", random_model)
    doctor = subprocess.run(
        [sys.executable, "-m", "compiler", "doctor", str(bundle), "--format", "json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert doctor.returncode == 0, doctor.stdout
    assert json.loads(doctor.stdout)["fit"]
    CONNECTOR_ON_CPU.plant(bundle)
    done = up(bundle)
    assert done.returncode == NOT_PROVED, done.stdout
    assert "serves" not in done.stdout
    assert " aggregated-0 ready after " in done.stdout  # its own health check is green
    assert "which is not LMCache" in done.stderr
    assert "degraded mode" in done.stderr
    assert "    lmcache cache-store: 0 of 4 chunks of the new prompt were stored" in done.stderr
    _, record = shown(bundle)
    assert record["verdict"] == "fail"

    build("agg-cpu", random_model)
    done = up(bundle)
    try:
        assert done.returncode == 0, done.stderr
        found = re.search(r" serves at \S+ after \S+ s, proved \(([\d.]+) s\)$", done.stdout, re.M)
        assert found is not None, done.stdout
        print(f"measured: the proof of a first start: {found[1]} s")
        assert float(found[1]) < 60  # 3 s on two idle cores
        is_ready, record = shown(bundle)
        assert is_ready
        assert record["proved"]
    finally:
        subprocess.run([*DYNC, "down", str(bundle)], check=True, timeout=300)


def up(bundle: Path) -> subprocess.CompletedProcess[str]:
    """Launch a bundle behind and wait until it serves, or is stopped as it is not proved."""
    command = [*DYNC, "up", "--detach", str(bundle)]
    return subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)


def shown(bundle: Path) -> tuple[bool, dict[str, Any]]:
    """Return whether dync status calls it ready, and the proof that it shows."""
    command = [*DYNC, "status", str(bundle), "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode == 0, json.loads(done.stdout)["proof"]


def test_two_workers_started_by_hand_and_a_dead_cache_server(
    build: Build, random_model: Path
) -> None:
    bundle, plan = build("agg-cpu", random_model, TWO_WORKERS)
    script = bundle / "bin" / "aggregated-1.sh"
    stray = "PYTHONHASHSEED=1\n    LMCACHE_CONFIG_FILE=/etc/lmcache.yaml"
    rewritten(script, r"PYTHONHASHSEED=0", stray)
    with by_hand(bundle, plan) as pids:
        until(lambda: answers(plan))  # the router looks at its workers every few seconds
        is_proved, found = proved(bundle)
        assert not is_proved
        failures = messages(found, "fail")
        assert "aggregated-1: PYTHONHASHSEED=1 in its environment; the bundle sets 0" in failures
        assert any("LMCACHE_CONFIG_FILE=/etc/lmcache.yaml" in said for said in failures)
        assert {said.partition(":")[0] for said in failures} == {"aggregated-1"}
        # The other worker had never seen the prompt: all of it came from the cache they share.
        assert "aggregated-1: LMCache served 511 of 512 tokens of the repeated prompt" in messages(
            found, "pass"
        )
        os.killpg(pids["lmcache"], signal.SIGKILL)
        time.sleep(1)
        assert healthy(plan, "aggregated-0")
        is_proved, found = proved(bundle)
        assert not is_proved
        assert any("no cache server listens" in said for said in messages(found, "fail"))
