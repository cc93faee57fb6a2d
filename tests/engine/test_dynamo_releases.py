"""Older Dynamo releases take what is built for them: their argument parsers, and their event plane.

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


# What a worker does for the router, without an engine: it listens to vLLM's events, and publishes.
PUBLISHES = """
import asyncio, json, os, sys
import psutil, zmq
from dynamo import llm
from dynamo.runtime import DistributedRuntime

vllm = zmq.Context.instance().socket(zmq.XPUB)
vllm.bind(sys.argv[1])

async def subscribed():
    for _ in range(100):
        await asyncio.sleep(0.1)
        if vllm.poll(0):
            return vllm.recv() == b"\\x01"
    return False

async def publish():
    if hasattr(llm, "ZmqKvEventListener"):  # the one of 0.7, whose publisher needs a NATS
        listener = llm.ZmqKvEventListener(sys.argv[1], "", 16)
        return await subscribed(), None
    heard = zmq.Context.instance().socket(zmq.SUB)
    heard.connect("ipc://run/events.out")
    heard.subscribe(b"")
    runtime = DistributedRuntime(asyncio.get_running_loop(), "file", "tcp", False)
    publisher = llm.KvEventPublisher(
        endpoint=runtime.endpoint("ns.worker.generate"), kv_block_size=16,
        zmq_endpoint=sys.argv[1], zmq_topic="",
        enable_local_indexer=True, dp_rank=0)
    is_subscribed = await subscribed()
    for number in range(100):
        publisher.publish_stored(list(range(16)), [16], [number])
        await asyncio.sleep(0.1)
        if heard.poll(0):
            return is_subscribed, len(heard.recv_multipart())
    return is_subscribed, 0

async def main():
    is_subscribed, frames = await publish()
    at = {item.laddr.ip for item in psutil.Process().net_connections("inet")
          if item.status == psutil.CONN_LISTEN}
    print("found", json.dumps([is_subscribed, frames, sorted(at)]), flush=True)
    os._exit(0)
asyncio.run(main())
"""


@pytest.mark.parametrize("stack", sorted(EXPECTED))
def test_events_of_an_older_release_stay_on_the_host(
    build: Build, dynamo_prefix: Path, random_model: Path, stack: str
) -> None:
    """The frontend is the release's own: it hands on what a worker publishes."""
    assert dynamo_prefix == cache_folder()
    asked = [f"stack={stack}", "lmcache.mode=in_process", "frontend.port=8765"]
    bundle, plan = build("dynamo-disagg-kv-router", random_model, *asked)
    (frontend,) = (item for item in plan.processes if item.kind is Kind.FRONTEND)
    prefill = next(item for item in plan.workers if item.name == "prefill-0")
    python = str(cache_folder() / "stacks/dynamo-1.6/bin/python")
    home = {"HOME": str(bundle), "PATH": os.environ["PATH"]}
    has_broker = "DYN_ZMQ_BROKER_URL" in frontend.env
    (bundle / "run").mkdir()
    folders = [frontend.env["PYTHONPATH"]] if has_broker else []
    front = {**frontend.env, **home, "PYTHONPATH": ":".join([*folders, str(release(stack))])}
    argv = [python, *frontend.argv[1:]] if has_broker else ["sleep", "600"]
    with open(bundle / "frontend.log", "wb") as log:
        running = subprocess.Popen(argv, cwd=bundle, env=front, stdout=log, stderr=log)
    try:
        events = prefill.launch.engine_args["kv_events_config"]
        events = json.loads(events) if isinstance(events, str) else events
        assert isinstance(events, dict)
        done = subprocess.run(
            [python, "-c", PUBLISHES, str(events["endpoint"])],
            cwd=bundle,
            env={**prefill.env, **home, "PYTHONPATH": str(release(stack))},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert running.poll() is None, (bundle / "frontend.log").read_text("utf-8")
    finally:
        running.kill()
        running.wait()
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("found "))
    at = ["127.0.0.1"] if has_broker else []
    assert json.loads(line[6:]) == [True, 4 if has_broker else None, at], done.stderr
