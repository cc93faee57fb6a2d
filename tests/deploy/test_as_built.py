"""Whether a live process is what was built: the same program, environment and form."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from compiler.deploy.finding import Verdict
from compiler.deploy.probe import processes as running_module
from compiler.deploy.probe.drift import as_built
from compiler.deploy.probe.processes import UNSEEN, Running, listening, look_at, oldest, running
from compiler.emit.systemd.unit_names import unit_environment
from compiler.plan import Plan
from compiler.process import Launch, Process
from tests.support import compile_file, plan_in, with_launch

LISTENS = """
import socket, time
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
time.sleep(60)
"""
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def plan() -> Plan:
    return plan_in(compile_file(ROOT / "profiles" / "agg-cpu.yaml"))


@pytest.fixture(scope="module")
def worker(plan: Plan) -> Process:
    return next(process for process in plan.processes if process.name == "aggregated-0")


@pytest.fixture(scope="module")
def server(plan: Plan) -> Process:
    return next(process for process in plan.processes if process.name == "lmcache")


def alive(process: Process, *argv: str, **more: str) -> Running:
    return Running(
        pid=7,
        argv=argv or process.argv,
        folder=Path("/srv"),
        environment={**process.env, "HOME": "/root", "INVOCATION_ID": "1", **more},
        started_s=0.0,
    )


def said(process: Process, seen: Running | None) -> list[tuple[Verdict, str]]:
    return [(finding.verdict, finding.message) for finding in as_built(process, seen)]


def test_as_it_was_built(worker: Process) -> None:
    passed = [(Verdict.PASS, "program and environment as built (pid 7)")]
    assert said(worker, alive(worker)) == passed
    assert said(worker, replace(alive(worker), environment=None)) == [
        (Verdict.PASS, "program as built (pid 7)")
    ]


def test_a_tiers_password_is_expected_and_never_shown(server: Process) -> None:
    name, word = "LMCACHE_RESP_PASSWORD", "geheim"
    process = replace(server, secrets={name: "/etc/dync/redis"})
    seen = alive(process, **{name: word})
    assert said(process, seen) == [(Verdict.PASS, "program and environment as built (pid 7)")]
    other = said(process, replace(seen, argv=("redis-cli", "-p", "1")))
    assert word not in str(other)


@pytest.mark.parametrize(
    ("variable", "value", "text"),
    [
        (
            "LMCACHE_CONFIG_FILE",
            "/etc/x.yaml",
            "LMCACHE_CONFIG_FILE=/etc/x.yaml is in its environment; the bundle does not set it",
        ),
        (
            "LMCACHE_REDIS_PASSWORD",
            "geheim",
            "LMCACHE_REDIS_PASSWORD=… is in its environment; the bundle does not set it",
        ),
        ("PYTHONHASHSEED", "1", "PYTHONHASHSEED=1 in its environment; the bundle sets 0"),
    ],
)
def test_a_stray_variable_is_named(worker: Process, variable: str, value: str, text: str) -> None:
    assert said(worker, alive(worker, **{variable: value})) == [(Verdict.FAIL, text)]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LMCACHE_REMOTE_URL", "redis://:hunter2@10.0.0.5:6379"),
        ("LMCACHE_EXTRA_CONFIG", '{"password": "hunter2"}'),
        ("VLLM_SOME_TOKEN", "hunter2"),
    ],
)
def test_what_may_hold_a_secret_is_not_shown(worker: Process, name: str, value: str) -> None:
    stray = said(worker, alive(worker, **{name: value}))
    other = said(with_launch(worker, env={**worker.env, name: "x"}), alive(worker, **{name: value}))
    assert stray[0][0] is other[0][0] is Verdict.FAIL
    assert "hunter2" not in str((stray, other))


def test_what_its_unit_sets_is_no_stray(plan: Plan, worker: Process) -> None:
    given = unit_environment(plan.name, worker, is_system=True)
    seen = alive(worker, **{name: "/somewhere" for name in given if name not in worker.env})
    assert [found.verdict for found in as_built(worker, seen, given)] == [Verdict.PASS]
    strays = [found.message.partition("=")[0] for found in as_built(worker, seen)]
    assert strays == ["PROMETHEUS_MULTIPROC_DIR", "VLLM_CACHE_ROOT", "VLLM_RPC_BASE_PATH"]
    wrong = alive(worker, PYTHONHASHSEED="1")
    assert [found.verdict for found in as_built(worker, wrong, given)] == [Verdict.FAIL]


def test_a_missing_variable_is_named(worker: Process) -> None:
    seen = alive(worker)
    assert seen.environment is not None
    bare = {name: text for name, text in seen.environment.items() if name != "PYTHONHASHSEED"}
    assert said(worker, replace(seen, environment=bare)) == [
        (Verdict.FAIL, "PYTHONHASHSEED is missing from its environment; the bundle sets 0")
    ]


def test_a_secret_is_not_held_against_it_nor_shown(worker: Process) -> None:
    assert said(worker, alive(worker, VLLM_API_KEY="hush"))[0][0] is Verdict.PASS


def test_the_form_without_lmcache_is_named(worker: Process) -> None:
    assert isinstance(worker.without_lmcache, Launch)
    [(verdict, text)] = said(worker, alive(worker, *worker.without_lmcache.argv))
    assert verdict is Verdict.FAIL
    assert "ENABLE_LMCACHE=0" in text


def test_a_switch_is_said(server: Process) -> None:
    argv = list(server.argv)
    argv[server.switch_argv["LMCACHE_CHUNK_SIZE"]] = "512"
    [(verdict, text)] = said(server, alive(server, *argv))
    assert verdict is Verdict.WARN
    assert "LMCACHE_CHUNK_SIZE=512 (built 128)" in text


def test_another_program_on_its_port(worker: Process) -> None:
    [(verdict, text)] = said(worker, alive(worker, "nginx", "-g", "daemon off;"))
    assert verdict is Verdict.WARN
    assert "not this bundle's: nginx" in text


def test_a_program_that_renamed_itself(worker: Process) -> None:
    seen = replace(alive(worker, "vllm::router", "", ""), environment={})
    assert said(worker, seen)[0][0] is Verdict.SKIP


def test_another_accounts_process(worker: Process) -> None:
    [(verdict, text)] = said(worker, UNSEEN)
    assert verdict is Verdict.SKIP
    assert "as root" in text


def test_nothing_there(worker: Process, server: Process) -> None:
    assert said(worker, None) == [(Verdict.FAIL, "nothing listens on its port 8000")]
    [(verdict, text)] = said(server, None)
    assert verdict is Verdict.FAIL
    assert "its workers cache nothing" in text


def test_a_live_process_is_read_from_the_system(plan: Plan) -> None:
    """This very process listens on a port of its own, and is found by it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert listening()[port] == {os.getpid()}
        first = plan.processes[0]
        mine = replace(first, listens=(replace(first.listens[0], port=port),))
        found = running(replace(plan, processes=(mine,)))
    with (
        subprocess.Popen(
            [sys.executable, "-c", LISTENS], stdout=subprocess.PIPE, text=True
        ) as child,
        socket.create_server(("127.0.0.1", port)),
    ):
        assert child.stdout is not None
        also = replace(first.listens[0], port=int(child.stdout.readline()))
        both = replace(mine, listens=(also, *mine.listens))
        older = running(replace(plan, processes=(both,)))[mine.name]
        child.kill()
    assert older.pid == os.getpid()
    seen = found[mine.name]
    assert seen.pid == os.getpid()
    assert seen.environment is not None
    assert look_at(2**22 + 1) is None


@pytest.mark.parametrize("worker", [300, 32_000])
def test_a_worker_is_told_from_its_child_by_age_where_numbers_wrapped(
    worker: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = 32_300 - worker
    started = {worker: 100.0, child: 131.5}
    monkeypatch.setattr(
        running_module, "look_at", lambda pid: replace(UNSEEN, pid=pid, started_s=started[pid])
    )
    found = oldest([child, 0, worker])
    assert found is not None
    assert found.pid == worker
    assert oldest([0]) is UNSEEN
    assert oldest([]) is None
