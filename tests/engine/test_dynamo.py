"""Dynamo's frontend and workers on the CPU, started by the launch.sh that was built.

Unless a test starts an etcd and a NATS, nothing but the bundle's own processes runs: workers and
frontend find each other through a folder.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from compiler.plan import Plan
from compiler.process import Kind, Process
from demo.client import ask, first_logprobs, long_prompt, metric
from demo.cpu_stack import launched
from tests.engine.conftest import Build, answers, messages, proved, until
from tests.engine.listening import nothing_listens_beyond
from tests.engine.test_deployments import HITS, left_running, metrics_of, nothing_left
from tests.support import free_ports

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("dynamo_prefix")]

OWN_CACHE_OFF = "engine_args.enable_prefix_caching=false"
EXACT = "engine_args.dtype=float32"


def workers_of(plan: Plan) -> Iterator[Process]:
    return (process for process in plan.processes if process.kind is Kind.WORKER)


def test_disaggregated_caches_moves_kv_and_answers_alike(build: Build, real_model: Path) -> None:
    exact = [f"workers[{index}].{EXACT}" for index in (0, 1)]
    bundle, plan = build("dynamo-disagg-cpu", real_model, *exact, f"workers[1].{OWN_CACHE_OFF}")
    prompt = long_prompt("dynamo-disagg", 40)
    with launched(bundle) as launch:
        cold = first_logprobs(plan.url, plan.served_name, prompt)
        assert metric(metrics_of(plan, "prefill-0"), HITS) == 0
        moved = metric(metrics_of(plan, "decode-0"), "vllm:nixl_bytes_transferred_sum")
        assert moved > 0
        warm = ask(plan.url, plan.served_name, prompt, max_tokens=1)
        assert warm.cached_tokens > 0
        again = first_logprobs(plan.url, plan.served_name, prompt)
        assert metric(metrics_of(plan, "prefill-0"), HITS) > 0
        assert metric(metrics_of(plan, "decode-0"), "vllm:nixl_bytes_transferred_sum") > moved
        assert cold.keys() == again.keys()
        assert max(abs(cold[token] - again[token]) for token in cold) < 1e-3
        is_proved, found = proved(bundle)
        assert is_proved
        assert any(said.startswith("prefill-0: LMCache served") for said in messages(found, "pass"))
        assert found["nixl"][0]["bytes"] > 0
        nothing_listens_beyond(bundle, plan)
        launch.send_signal(signal.SIGTERM)
        assert launch.wait(timeout=240) == 0
    assert nothing_left(bundle)
    assert not [path for path in (bundle / "run" / "discovery").rglob("*") if path.is_file()]


def test_aggregated_caches(build: Build, random_model: Path) -> None:
    # The frontend serves no model without a chat template, and this one has none, unless it is
    # told that the model only completes.
    completes = "workers[0].env.DYN_ENDPOINT_TYPES=completions"
    bundle, plan = build("dynamo-agg-cpu", random_model, f"workers[0].{OWN_CACHE_OFF}", completes)
    prompt = long_prompt("dynamo-agg", 20)
    with launched(bundle):
        assert ask(plan.url, plan.served_name, prompt).cached_tokens == 0
        warm = ask(plan.url, plan.served_name, prompt)
        assert 0 < warm.cached_tokens < warm.prompt_tokens
        assert metric(metrics_of(plan, "aggregated-0"), HITS) == warm.cached_tokens
        is_proved, found = proved(bundle)
        assert is_proved
        assert "aggregated-0: LMCache served 511 of 512 tokens of the repeated prompt" in messages(
            found, "pass"
        )
        nothing_listens_beyond(bundle, plan)
        outlive_a_pause(bundle)
        until(lambda: answers(plan), 60)
        assert ask(plan.url, plan.served_name, prompt).cached_tokens > 0
    assert nothing_left(bundle)


def outlive_a_pause(bundle: Path) -> None:
    """Stop all processes for 12 s, as a pause of the host does, and let the worker go on last.

    By then the frontend has found the worker's registration expired, and deleted it.
    """
    instances = bundle / "run" / "discovery" / "v1" / "instances"
    names = {path.name: path.stat().st_mtime for path in instances.iterdir()}
    assert names
    pids = left_running(bundle)
    worker = {pid for pid, words in pids.items() if "dynamo.vllm" in words}
    assert worker
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(12)
    for pid in pids.keys() - worker:
        os.kill(pid, signal.SIGCONT)
    until(lambda: all(was_put_back(instances / name, at) for name, at in names.items()), 20)
    for pid in worker:
        os.kill(pid, signal.SIGCONT)


def was_put_back(path: Path, touched: float) -> bool:
    try:
        return path.stat().st_mtime > touched + 10
    except FileNotFoundError:
        return False


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def running(*words: str, port: int, log: Path) -> Iterator[None]:
    """Run a server until it accepts connections, and stop it at the end."""
    with open(log, "wb") as output:
        process = subprocess.Popen(words, stdout=output, stderr=output)
    try:
        give_up = time.monotonic() + 30
        while not accepts(port):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < give_up, f"{words[0]} does not answer"
            time.sleep(0.1)
        yield
        assert process.poll() is None, log.read_text()[-2000:]
    finally:
        process.terminate()
        process.wait(timeout=30)


@pytest.mark.skipif(
    not all(map(shutil.which, ("etcd", "etcdctl", "nats-server"))),
    reason="needs Debian's etcd-server, etcd-client and nats-server",
)
def test_disaggregated_by_etcd_and_nats(build: Build, random_model: Path, tmp_path: Path) -> None:
    etcd, peers, nats, monitor = free_ports(4)
    url = f"http://127.0.0.1:{etcd}"
    bundle, plan = build(
        "dynamo-disagg-cpu",
        random_model,
        "frontend.routing=kv",
        "discovery.backend=etcd",
        f'discovery.etcd_endpoints=["{url}"]',
        "discovery.events=nats",
        f"discovery.nats_server=nats://127.0.0.1:{nats}",
        *(f"workers[{index}].env.DYN_ENDPOINT_TYPES=completions" for index in (0, 1)),
    )
    etcd_argv = ["etcd", "--data-dir", str(tmp_path / "etcd"), "--listen-client-urls", url]
    etcd_argv += ["--advertise-client-urls", url]
    etcd_argv += ["--listen-peer-urls", f"http://127.0.0.1:{peers}"]
    nats_argv = ["nats-server", "-a", "127.0.0.1", "-p", str(nats), "-m", str(monitor)]
    prompt = long_prompt("dynamo-etcd", 20)
    with (
        running(*etcd_argv, port=etcd, log=tmp_path / "etcd.log"),
        running(*nats_argv, port=nats, log=tmp_path / "nats.log"),
        launched(bundle),
    ):
        ask(plan.url, plan.served_name, prompt)
        assert ask(plan.url, plan.served_name, prompt).cached_tokens > 0
        assert metric(metrics_of(plan, "decode-0"), "vllm:nixl_bytes_transferred_sum") > 0
        keys = subprocess.run(
            ["etcdctl", f"--endpoints={url}", "get", "--prefix", "v1/instances", "--keys-only"],
            env={**os.environ, "ETCDCTL_API": "3"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert f"{plan.name}/prefill/generate" in keys
        assert f"{plan.name}/backend/generate" in keys
        with urllib.request.urlopen(f"http://127.0.0.1:{monitor}/varz", timeout=30) as answer:
            assert json.load(answer)["in_msgs"] > 0
        assert not (bundle / "run" / "discovery").exists()
    assert nothing_left(bundle)


PARSED = """
import json, sys
from dynamo.vllm.args import parse_args
found = parse_args(sys.argv[1:])
engine = found.engine_args
print(json.dumps([found.disaggregation_mode.value, found.namespace, found.discovery_backend,
                  found.served_model_name, engine.kv_transfer_config.kv_connector,
                  found.use_kv_events, engine.shutdown_timeout]))
"""
FRONTEND_PARSED = """
import json, sys
from dynamo.frontend.main import parse_args
found = parse_args()[0]
print(json.dumps([found.http_host, found.http_port, found.router_mode, found.namespace]))
"""


def parsed(code: str, process: Process, bundle: Path) -> list[object]:
    """Return what a release's own parser makes of a process's argv, environment and engine file."""
    module = next(index for index, word in enumerate(process.argv) if word.startswith("dynamo."))
    done = subprocess.run(
        [process.argv[0], "-c", code, *process.argv[module + 1 :]],
        cwd=bundle,
        env=dict(process.env),
        capture_output=True,
        text=True,
        check=True,
    )
    found: list[object] = json.loads(done.stdout.strip().split("\n")[-1])
    return found


def test_dynamos_own_parsers_take_what_is_built(build: Build, random_model: Path) -> None:
    name = "it's-100%-$HOME-\\-ö"
    quoted = name.replace("'", "''")
    bundle, plan = build(
        "dynamo-disagg-cpu", random_model, f"model.served_name='{quoted}'", "frontend.routing=kv"
    )
    prefill = next(worker for worker in workers_of(plan) if worker.name == "prefill-0")
    decode = next(worker for worker in workers_of(plan) if worker.name == "decode-0")
    frontend = next(process for process in plan.processes if process.kind is Kind.FRONTEND)
    common = [plan.name, "file", name]
    assert parsed(PARSED, prefill, bundle) == ["prefill", *common, "MultiConnector", True, 30]
    assert parsed(PARSED, decode, bundle) == ["decode", *common, "NixlConnector", False, 30]
    assert parsed(FRONTEND_PARSED, frontend, bundle) == ["127.0.0.1", 8000, "kv", plan.name]
