"""Real engines on the CPU, started by the launch.sh that was built."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from compiler.deploy.probe.http_client import process_url
from compiler.library import load_shape, load_stack
from compiler.model.asked import asked_model
from compiler.model.memory_budget import cache_budgets, worker_budgets
from compiler.plan import Plan
from compiler.process import Process
from demo.client import ask, first_logprobs, long_prompt, metric
from demo.cpu_stack import launched
from tests.engine.conftest import Build, messages, proved, until
from tests.engine.listening import nothing_listens_beyond

pytestmark = pytest.mark.engine

HITS = "vllm:external_prefix_cache_hits_total"
RUNNING = "vllm:num_requests_running"
AGG_OWN_CACHE_OFF = "workers[0].engine_args.enable_prefix_caching=false"


def process_of(plan: Plan, name: str) -> Process:
    return next(process for process in plan.processes if process.name == name)


def metrics_of(plan: Plan, name: str) -> str:
    return process_of(plan, name).metrics


def left_running(bundle: Path) -> dict[int, str]:
    """Return command lines of live processes that work in the bundle's folder or below, by id."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                folder = Path(os.readlink(entry / "cwd"))
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
            except OSError:
                continue
            if folder.is_relative_to(bundle.resolve()):
                found[int(entry.name)] = words.decode("utf-8", "replace")
    return found


def nothing_left(bundle: Path) -> bool:
    for _ in range(50):
        if not left_running(bundle):
            return True
        time.sleep(0.2)
    return False


def test_disaggregated_caches_moves_kv_and_answers_alike(build: Build, real_model: Path) -> None:
    bundle, plan = build(
        "disagg-cpu",
        real_model,
        "workers[0].engine_args.dtype=float32",
        "workers[1].engine_args.dtype=float32",
        "workers[1].engine_args.enable_prefix_caching=false",
    )
    prompt = long_prompt("alike", 40)
    with launched(bundle) as launch:
        cold = first_logprobs(plan.url, plan.served_name, prompt)
        assert metric(metrics_of(plan, "prefill-0"), HITS) == 0
        warm = first_logprobs(plan.url, plan.served_name, prompt)
        assert metric(metrics_of(plan, "prefill-0"), HITS) > 0
        assert metric(metrics_of(plan, "decode-0"), "vllm:nixl_bytes_transferred_sum") > 0
        assert cold.keys() == warm.keys()
        assert max(abs(cold[token] - warm[token]) for token in cold) < 1e-3
        is_proved, found = proved(bundle)
        assert is_proved
        assert "prefill-0: LMCache served 511 of 512 tokens of the repeated prompt" in messages(
            found, "pass"
        )
        assert found["nixl"][0]["transfers"] >= 2
        nothing_listens_beyond(bundle, plan)
        with ThreadPoolExecutor(1) as pool:
            url = process_url(process_of(plan, "prefill-0"), "/v1")
            answer = pool.submit(
                ask, url, plan.served_name, "Once", max_tokens=150, ignore_eos=True
            )
            until(lambda: metric(metrics_of(plan, "prefill-0"), RUNNING) == 1)
            launch.send_signal(signal.SIGTERM)  # what runs is finished first
            assert answer.result().output_tokens == 150
        assert launch.wait(timeout=120) == 0
    assert nothing_left(bundle), left_running(bundle)


def test_aggregated_caches_and_a_killed_worker_stops_the_launch(
    build: Build, random_model: Path
) -> None:
    bundle, plan = build("agg-cpu", random_model, AGG_OWN_CACHE_OFF)
    prompt = long_prompt("killed", 20)
    with launched(bundle, {"LMCACHE_CHUNK_SIZE": "512"}) as launch:
        server = next(
            words for words in left_running(bundle).values() if "lmcache.cli.main" in words
        )
        assert "--chunk-size 512 " in server
        ask(plan.url, plan.served_name, prompt)
        ask(plan.url, plan.served_name, prompt)
        hits = metric(metrics_of(plan, "aggregated-0"), HITS)
        assert hits > 0
        assert hits % 512 == 0
        memory_is_what_was_said(plan, chunk_size=512)
        nothing_listens_beyond(bundle, plan)
        is_proved, found = proved(bundle)
        assert is_proved
        assert "lmcache: 2 of 2 chunks of the new prompt were stored" in messages(found, "pass")
        assert any("LMCACHE_CHUNK_SIZE=512 (built 128)" in said for said in messages(found, "warn"))
        worker = next(
            int(entry.name)
            for entry in Path("/proc").iterdir()
            if entry.name.isdigit() and _is_worker_of(entry, bundle)
        )
        os.kill(worker, signal.SIGKILL)
        rest, _ = launch.communicate(timeout=120)
        assert launch.returncode == 6
        assert "aggregated-0 ended with status 137" in rest
        assert "logs/aggregated-0.log" in rest
    assert nothing_left(bundle), left_running(bundle)


def memory_is_what_was_said(plan: Plan, chunk_size: int) -> None:
    """Check what `dync check --explain-memory` says against what engine and cache server report."""
    asked = asked_model(plan.model, [worker.launch.engine_args for worker in plan.workers])
    shape, platform = load_shape(asked), load_stack(plan.stack).platforms["cpu"]
    (worker,) = worker_budgets(plan, shape, None, platform)
    assert worker.kv_bytes is not None
    text = text_of(metrics_of(plan, worker.name))
    found = re.search(r'kv_cache_size_tokens="(\d+)"', text)
    assert found is not None
    assert worker.tokens(worker.kv_bytes) == pytest.approx(int(found[1]), rel=0.01)
    (cache,) = cache_budgets(plan, shape, platform)
    status = json.loads(text_of(process_url(process_of(plan, cache.name), "/status")))
    used = status["storage_manager"]["l1_managers"]["_default"]
    assert used["memory_total_bytes"] == pytest.approx(cache.total_bytes, rel=0.01)
    a_token = used["memory_used_bytes"] / used["total_object_count"] / chunk_size
    assert cache.token_bytes == pytest.approx(a_token, rel=0.01)


def text_of(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as response:
        text: str = response.read().decode()
    return text


def _is_worker_of(entry: Path, bundle: Path) -> bool:
    try:
        words = (entry / "cmdline").read_bytes().split(b"\0")
        return os.readlink(entry / "cwd") == str(bundle.resolve()) and b"--config" in words
    except OSError:
        return False


def test_without_lmcache_nothing_hits(build: Build, random_model: Path) -> None:
    bundle, plan = build("agg-cpu", random_model, AGG_OWN_CACHE_OFF)
    prompt = long_prompt("off", 20)
    dync = [sys.executable, "-m", "compiler"]
    without = {**os.environ, "ENABLE_LMCACHE": "0"}
    subprocess.run([*dync, "up", "--detach", str(bundle)], env=without, check=True, timeout=900)
    try:
        assert not any("lmcache.cli.main" in words for words in left_running(bundle).values())
        ask(plan.url, plan.served_name, prompt)
        ask(plan.url, plan.served_name, prompt)
        assert metric(metrics_of(plan, "aggregated-0"), HITS) == 0
        is_proved, found = proved(bundle)
        assert not is_proved
        assert any(
            "(ENABLE_LMCACHE=0): nothing is cached" in said for said in messages(found, "fail")
        )
    finally:
        subprocess.run([*dync, "down", str(bundle)], check=True, timeout=300)
    assert nothing_left(bundle), left_running(bundle)


def test_a_wrong_chunk_size_is_refused_before_anything_starts(
    build: Build, random_model: Path
) -> None:
    bundle, _ = build("agg-cpu", random_model)
    done = subprocess.run(
        [str(bundle / "launch.sh")],
        env={**os.environ, "LMCACHE_CHUNK_SIZE": "200"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert "LMCACHE_CHUNK_SIZE" in done.stderr
    assert "128 and 256" in done.stderr
    assert not list((bundle / "logs").glob("*.log")) if (bundle / "logs").exists() else True


def test_vllms_own_parser_takes_the_engine_files(build: Build, random_model: Path) -> None:
    bundle, plan = build("disagg-cpu", random_model, 'model.served_name="it\'s 100% $HOME \\ ö"')
    worker = next(process for process in plan.processes if process.name == "prefill-0")
    code = (
        "import json, sys\n"
        "from vllm.entrypoints.launchers.cli_args import make_arg_parser\n"
        "from vllm.utils.argparse_utils import FlexibleArgumentParser\n"
        "found = make_arg_parser(FlexibleArgumentParser()).parse_args(sys.argv[1:])\n"
        "print(json.dumps([found.model, found.served_model_name, found.port, found.enforce_eager,\n"
        "                  found.kv_transfer_config.kv_connector]))\n"
    )
    words = worker.argv[worker.argv.index("--model") :]
    done = subprocess.run(
        [worker.argv[0], "-c", code, *words],
        cwd=bundle,
        env=dict(worker.env),
        capture_output=True,
        text=True,
        check=True,
    )
    port = worker.listens[0].port
    expected = [plan.model, [plan.served_name], port, True, "MultiConnector"]
    assert json.loads(done.stdout.strip().split("\n")[-1]) == expected
