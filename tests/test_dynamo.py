"""Deployments whose frontend discovers its workers: facts read from their plans."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from compiler.library import load_stack
from compiler.plan import Plan
from compiler.process import Kind, KvSource, Launch, Process
from compiler.shipped_files import catalogue_text, stack_names
from compiler.stacks.when import When
from compiler.topology import Role
from tests.support import plan_of
from tests.test_facts import ALL, IDS, launches, plan_at, workers

# Connectors that Dynamo can pass a request's KV by; more than one in a worker, or none in a worker
# of a disaggregated deployment, fails every request.
# Source: ai-dynamo 1.6.1 dynamo/vllm/kv_connector_protocols.py, KV_CONNECTOR_PROTOCOLS, those that
# produce kv_transfer_params.
MOVES_KV = {"NixlConnector", "NeuronNixlConnector", "MooncakeConnector"}
DYNAMO = [name for name in stack_names() if load_stack(name).discovery]
PATHS = [
    pytest.param(path, id=name)
    for path, name in zip(ALL, IDS, strict=True)
    if plan_at(path).stack in DYNAMO
]

every_profile = pytest.mark.parametrize("path", PATHS)
each_stack = pytest.mark.parametrize("stack", DYNAMO)


def forms(plan: Plan) -> list[tuple[Process, Launch]]:
    """Return every form of every worker, beside the worker itself."""
    found: list[tuple[Process, Launch]] = []
    for worker in workers(plan):
        found.append((worker, worker.launch))
        if isinstance(worker.without_lmcache, Launch):
            found.append((worker, worker.without_lmcache))
    return found


def frontend_of(plan: Plan) -> Process:
    (found,) = (process for process in plan.processes if process.kind is Kind.FRONTEND)
    return found


def profile(stack: str, **changes: Any) -> str:
    """Write the smallest disaggregated profile that every one of these stacks takes."""
    base: dict[str, Any] = {
        "name": "small",
        "stack": stack,
        "topology": "disagg",
        "model": {"id": "Qwen/Qwen3-0.6B", "served_name": "qwen"},
        "lmcache": {"mode": "multiprocess" if stack == "dynamo-1.6" else "in_process"},
        "workers": [{"role": "prefill", "gpus": [0]}, {"role": "decode", "gpus": [1]}],
    }
    return json.dumps({**base, **changes})


@every_profile
def test_every_disaggregated_worker_moves_kv_by_one_connector(path: Path) -> None:
    for worker, form in forms(plan_at(path)):
        moving = [item.name for item in form.connectors]
        found = [name for name in moving if name in MOVES_KV]
        if worker.role is not Role.AGGREGATED:
            assert found == ["NixlConnector"], worker.name


@every_profile
def test_the_command_names_the_connectors_of_the_plan(path: Path) -> None:
    plan = plan_at(path)
    command = load_stack(plan.stack).connectors.command
    for _, form in forms(plan):
        assert (form.kv_source is KvSource.COMMAND) == (command is not None)
        if command is None:
            assert "--connector" not in form.argv
            continue
        start = form.argv.index(command.flag) + 1
        named = []
        for word in form.argv[start:]:
            if word.startswith("-"):
                break
            named.append(word)
        names = [item.name for item in form.connectors]
        assert named == ([command.words[name] for name in names] or [command.none])


@every_profile
def test_processes_find_each_other_and_nobody_else(path: Path) -> None:
    plan = plan_at(path)
    frontend = frontend_of(plan)
    assert all(worker.name in frontend.after for worker in workers(plan))
    shared = ("DYN_NAMESPACE", "DYN_FILE_KV", "ETCD_ENDPOINTS", "NATS_SERVER", "DYN_EVENT_PLANE")
    found = [frontend.launch, *(form for _, form in forms(plan))]
    for name in shared:
        assert len({form.env.get(name) for form in found}) == 1, name
    assert frontend.env["DYN_NAMESPACE"] == plan.name
    assert not Path(frontend.env.get("DYN_FILE_KV", "run/discovery")).is_absolute()
    assert ("ETCD_ENDPOINTS" in frontend.env) == any(s.purpose == "etcd" for s in plan.services)
    assert ("NATS_SERVER" in frontend.env) == any(s.purpose == "nats" for s in plan.services)


@every_profile
def test_every_port_in_argv_and_environment_is_listened_on(path: Path) -> None:
    plan = plan_at(path)
    for process in plan.processes:
        if process.kind is Kind.CACHE_SERVER:
            continue
        ports = {listen.port for listen in process.listens}
        named = {int(v) for name, v in process.env.items() if name.endswith("_PORT")}
        assert named <= ports, process.name
        if process.kind is Kind.WORKER:
            assert process.env["DYN_SYSTEM_PORT"] == str(process.ready.port)
            assert process.metrics == f"http://127.0.0.1:{process.ready.port}/metrics"


@every_profile
def test_ready_means_a_completion_that_was_routed(path: Path) -> None:
    plan = plan_at(path)
    ready = frontend_of(plan).ready
    assert ready.path == "/v1/completions"
    body = json.loads(ready.body)
    assert (body["model"], body["max_tokens"]) == (plan.served_name, 1)
    assert all(not worker.ready.body for worker in workers(plan))


@each_stack
@pytest.mark.parametrize("routing", ["round_robin", "kv"])
def test_kv_events_have_a_socket_of_their_own_for_each_worker(stack: str, routing: str) -> None:
    plan = plan_of(
        profile(
            stack,
            frontend={"routing": routing},
            workers=[
                {"role": "prefill", "gpus": [0, 1], "replicas": 2},
                {"role": "decode", "gpus": [2]},
            ],
        )
    )
    assert frontend_of(plan).argv[frontend_of(plan).argv.index("--router-mode") + 1] in {
        "round-robin",
        "kv",
    }
    sockets = []
    for worker in workers(plan):
        events = worker.launch.engine_args.get("kv_events_config") or {}
        events = json.loads(events) if isinstance(events, str) else events
        assert isinstance(events, dict)
        is_sent = bool(events.get("enable_kv_cache_events"))
        sockets += [events["endpoint"]] if is_sent else []
        if routing == "kv":
            assert is_sent == (worker.role is Role.PREFILL)
    assert len(set(sockets)) == len(sockets)
    # vLLM binds to ipc:// and to wildcards alone, and a wildcard is every address of the host.
    assert all(re.fullmatch(r"ipc://run/[a-z0-9-]+\.kv-events", str(item)) for item in sockets)


@pytest.mark.parametrize("events", ["zmq", "nats"])
@each_stack
def test_what_workers_publish_goes_through_the_frontend_or_a_server(
    stack: str, events: str
) -> None:
    if events not in load_stack(stack).discovery["events"]:
        pytest.skip("a release that knows NATS alone")
    nats = {"nats_server": "nats://127.0.0.1:4222"} if events == "nats" else {}
    plan = plan_of(profile(stack, discovery={"events": events, **nats}))
    frontend = frontend_of(plan)
    for process in (*workers(plan), frontend):
        broker = process.env.get("DYN_ZMQ_BROKER_URL", "")
        assert broker.count("=ipc://run/events.") == (2 if events == "zmq" else 0)
    if events == "zmq":
        assert frontend.env["PYTHONPATH"] == "lib/events"


@pytest.mark.parametrize("stack", stack_names())
def test_each_mode_is_offered_or_refused(stack: str) -> None:
    shipped = load_stack(stack)
    for mode in ("multiprocess", "in_process"):
        refused = any(
            case.severity == "error" and case.when == When({"mode": (mode,), "lmcache": (True,)})
            for case in shipped.cases
        )
        assert refused != (mode in shipped.connectors.cache)


WORKER_OWN = {"--model", "--config"}


@every_profile
def test_every_flag_is_one_of_the_release(path: Path) -> None:
    """A flag that a release renames or drops is not in its catalogue."""
    plan = plan_at(path)
    known = {
        name: {
            option["flag"]
            for option in json.loads(catalogue_text(plan.stack, name))["options"].values()
        }
        for name in ("dynamo-worker", "dynamo-frontend", "vllm")
    }
    taken = known["dynamo-worker"] | WORKER_OWN
    for form, name in launches(plan):
        assert {word for word in form.argv if word.startswith("--")} <= taken, name
        flags = {f"--{key.replace('_', '-')}" for key in form.engine_args}
        assert flags <= known["vllm"], name
    flags = {word for word in frontend_of(plan).argv if word.startswith("--")}
    assert flags <= known["dynamo-frontend"]
    assert known["dynamo-worker"] & {"--disaggregation-mode", "--is-prefill-worker"}
    assert "--model" in known["vllm"]
