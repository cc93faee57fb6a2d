"""Real engines under a real systemd: they come back by themselves, and upgrades go back.

One deployment lives through the whole module, test by test in this order. The seconds that it
prints are those of benchmarks/recovery.md.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from compiler.plan import Plan
from compiler.write.plan_reader import plan_from_json
from demo.client import ask, long_prompt, metric
from demo.cpu_stack import cache_folder
from tests.engine.conftest import alone, answers, until
from tests.support import PROFILES
from tests.systemd.machine import Machine, can_boot

pytestmark = pytest.mark.engine

PREFIX = "/opt/dync"
HITS = "vllm:external_prefix_cache_hits_total"
DYNC = str(Path(sys.executable).with_name("dync"))
# bfloat16 is emulated on most CPUs.
SMALL = (
    *("lmcache.cpu_cache_gb=0.5", "deploy.drain_s=5", "model.max_len=2048"),
    *("workers[0].engine_args.dtype=float32", "workers[1].engine_args.dtype=float32"),
)
OWN_CACHE_OFF = "engine_args.enable_prefix_caching=false"
TWO = """\
extends: agg-cpu.yaml
name: two
workers:
  - role: aggregated
    engine_args: {enforce_eager: true}
    env: {VLLM_CPU_KVCACHE_SPACE: 1, VLLM_CPU_OMP_THREADS_BIND: "0"}
  - role: aggregated
    engine_args: {enforce_eager: true}
    env: {VLLM_CPU_KVCACHE_SPACE: 1, VLLM_CPU_OMP_THREADS_BIND: "1"}
"""


PROVED_WITHIN_S = 60  # 3 s on two idle cores; the watcher below asks at the same time
NIXL_ALONE = '{"kv_connector": "NixlConnector", "kv_role": "kv_producer"}'


@pytest.fixture(scope="module", autouse=True)
def one_at_a_time(prefix: Path, random_model: Path, dynamo_prefix: Path) -> Iterator[None]:
    """Hold the engines' lock for the module, in place of each test.

    What takes the same lock to be made is made before.
    """
    assert all(path.is_dir() for path in (prefix, random_model, dynamo_prefix))
    with alone():
        yield


@dataclass
class Running:
    """A machine, and what is built for it."""

    machine: Machine
    folder: Path
    weights: str

    def build(self, profile: Path, *overrides: str) -> Plan:
        given = (f"deploy.prefix={PREFIX}", f"model.id={self.weights}", *SMALL, *overrides)
        words = [word for override in given for word in ("--set", override)]
        out = self.folder / profile.stem
        build = [DYNC, "build", str(profile), "-o", str(out), *words]
        subprocess.run(build, check=True, stdout=subprocess.DEVNULL)
        return plan_from_json((out / "plan.json").read_text("utf-8"))

    def dync(self, *words: str) -> subprocess.CompletedProcess[str]:
        done = self.machine.try_run(DYNC, *words)
        print(f"$ dync {' '.join(words)}\n{done.stdout}{done.stderr}")
        return done

    def install(self, profile: Path, *options: str) -> subprocess.CompletedProcess[str]:
        return self.dync("install", str(self.folder / profile.stem), *options)

    def show(self, unit: str, key: str) -> str:
        return self.machine.run("systemctl", "show", "-p", key, "--value", unit).strip()

    def pid(self, plan: Plan, process: str) -> int:
        return int(self.show(f"dync-{plan.name}-{process}.service", "MainPID"))

    def pids(self, plan: Plan) -> dict[str, int]:
        return {str(process.name): self.pid(plan, process.name) for process in plan.processes}

    def states(self, plan: Plan) -> set[str]:
        """Return the states of its units; one is inactive when its last process is gone."""
        units = (f"dync-{plan.name}-{process.name}.service" for process in plan.processes)
        return {self.show(unit, "ActiveState") for unit in units}

    def engine_core(self, plan: Plan, process: str) -> int:
        group = self.show(f"dync-{plan.name}-{process}.service", "ControlGroup")
        for pid in self.machine.run("cat", f"/sys/fs/cgroup{group}/cgroup.procs").split():
            if "VLLM::EngineCore" in self.machine.run("cat", f"/proc/{pid}/cmdline"):
                return int(pid)
        raise AssertionError(f"{process} has no engine core")

    def kill(self, pid: int) -> None:
        self.machine.run("kill", "-KILL", str(pid))


@pytest.fixture(scope="module")
def running(
    one_at_a_time: None,  # noqa: ARG001 -- the lock is taken before anything starts
    prefix: Path,
    random_model: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Running]:
    if not can_boot():
        pytest.fail("engine tests under systemd need root, unshare and /lib/systemd/systemd")
    folder = tmp_path_factory.mktemp("systemd")
    # The processes' account, not root, reads the weights.
    subprocess.run(["chmod", "-R", "a+rX", str(random_model)], check=True)
    machine = Machine({folder: str(folder), cache_folder(): PREFIX})
    weights = f"{PREFIX}/{random_model.relative_to(cache_folder())}"
    assert prefix == cache_folder()
    try:
        machine.boot()
        yield Running(machine, folder, weights)
    finally:
        print(machine.try_run("journalctl", "--no-pager", "-n", "400", "-o", "short").stdout)
        machine.discard()


def hits(plan: Plan, worker: str) -> float:
    url = next(process.metrics for process in plan.processes if process.name == worker)
    return metric(url, HITS)


def fresh_hits(plan: Plan, worker: str) -> float:
    """Send one new prompt twice, and return the tokens that the second found in LMCache."""
    before = hits(plan, worker)
    prompt = long_prompt(f"{time.monotonic()}", 20)
    for _ in range(2):
        ask(plan.url, plan.served_name, prompt, max_tokens=2)
    return hits(plan, worker) - before


def serves_steadily(plan: Plan) -> bool:
    """Two completions in a row: no dead worker is in turn any more."""
    return answers(plan) and answers(plan)


PROFILE = PROFILES / "disagg-cpu.yaml"


@pytest.fixture(scope="module")
def plan(running: Running) -> Plan:
    return running.build(PROFILE, f"workers[1].{OWN_CACHE_OFF}")


def proof_s(said: str) -> float:
    """Return the seconds that the proof of a first start took, of what an install printed."""
    found = re.search(r" serves at \S+ \(asked for \d+ s\), proved \(([\d.]+) s", said)
    assert found is not None, said
    return float(found[1])


def test_the_target_is_active_only_once_it_serves(running: Running, plan: Plan) -> None:
    seen: list[tuple[str, bool]] = []
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            state = running.show(f"dync-{plan.name}.target", "ActiveState")
            # A slow answer is an answer: on a busy machine a transfer took half a minute.
            seen.append((state, answers(plan, timeout_s=120)))
            time.sleep(0.5)

    watcher = threading.Thread(target=watch)
    watcher.start()
    begun = time.monotonic()
    try:
        done = running.dync("install", str(running.folder / PROFILE.stem), "--create-user")
        took = time.monotonic() - begun
        time.sleep(2)
    finally:
        over.set()
        watcher.join()
    assert done.returncode == 0
    assert proof_s(done.stdout) < PROVED_WITHIN_S
    assert ("active", False) not in seen
    assert ("inactive", False) in seen
    assert seen[-1] == ("active", True)
    print(f"measured: install until it serves: {took:.0f} s")
    for process in plan.processes:
        user = running.machine.run("ps", "-o", "user=", "-p", str(running.pid(plan, process.name)))
        assert user.strip() == "dync"


def test_status_and_logs_tell_what_it_does(running: Running, plan: Plan) -> None:
    assert fresh_hits(plan, "prefill-0") > 0
    status = running.dync("status", plan.name, "--format", "json")
    assert status.returncode == 0
    seen = {process["name"]: process for process in json.loads(status.stdout)["processes"]}
    assert seen["prefill-0"]["lmcache"]["found"] == hits(plan, "prefill-0")
    assert all(process["ready"] and process["restarts"] == 0 for process in seen.values())
    proof = running.dync("verify", plan.name, "--format", "json")
    assert proof.returncode == 0
    found = json.loads(proof.stdout)
    assert found["started_by"] == "systemd"
    assert found["nixl"][0]["bytes"] > 0
    assert any("LMCache served" in item["message"] for item in found["findings"])
    log = running.dync("logs", plan.name, "decode-0", "-n", "2000").stdout
    assert "dync-disagg-cpu-decode-0" in log
    assert "dync-disagg-cpu-prefill-0" not in log


def comes_back(
    running: Running, plan: Plan, process: str, victim: str, child: int | None = None
) -> None:
    """Kill a process, or a child of it, and wait until there is a new one and all serves."""
    before = running.pid(plan, process)
    running.kill(child or before)
    begun = time.monotonic()
    until(lambda: running.pid(plan, process) not in (0, before))
    until(lambda: serves_steadily(plan))
    print(f"measured: {victim} killed, serves again after {time.monotonic() - begun:.0f} s")


KILLED = {
    "prefill engine core": ("prefill-0", True),
    "decode API server": ("decode-0", False),
    "router": ("router", False),
    "cache server": ("lmcache-prefill-0", False),
}


@pytest.mark.parametrize("victim", KILLED, ids=lambda name: name.replace(" ", "-"))
def test_a_killed_process_comes_back(running: Running, plan: Plan, victim: str) -> None:
    process, is_child = KILLED[victim]
    core = running.engine_core(plan, process) if is_child else None
    comes_back(running, plan, process, victim, core)
    until(lambda: running.dync("status", plan.name).returncode == 0)
    assert fresh_hits(plan, "prefill-0") > 0


def test_an_upgrade_of_decode_restarts_only_decode(running: Running, plan: Plan) -> None:
    before = running.pids(plan)
    newer = running.build(
        PROFILE, f"workers[1].{OWN_CACHE_OFF}", "workers[0].engine_args.max_num_seqs=8"
    )
    begun = time.monotonic()
    assert running.install(PROFILE).returncode == 0
    print(f"measured: upgrade of decode: {time.monotonic() - begun:.0f} s")
    after = running.pids(newer)
    assert {name for name in after if after[name] != before[name]} == {"decode-0"}
    assert answers(plan)


@pytest.mark.long
def test_an_upgrade_that_cannot_start_goes_back(running: Running, plan: Plan) -> None:
    before = running.pids(plan)
    generation = running.machine.run("readlink", f"/etc/dync/{plan.name}/current").strip()
    broken = "/srv/no-model"
    running.machine.at(broken).mkdir()
    running.machine.at(f"{broken}/config.json").write_text("{}")
    running.machine.at(f"{broken}/model.safetensors").write_bytes(b"of no model")
    running.build(
        PROFILE,
        f"workers[1].{OWN_CACHE_OFF}",
        "workers[0].engine_args.max_num_seqs=8",
        f"model.id={broken}",
    )
    begun = time.monotonic()
    done = running.install(PROFILE)
    print(f"measured: an upgrade that cannot start went back in {time.monotonic() - begun:.0f} s")
    assert done.returncode == 1
    assert "dync-disagg-cpu-decode-0.service ended 3 times before it was ready" in done.stderr
    assert f"went back to generation {Path(generation).name}, which serves" in done.stderr
    after = running.pids(plan)
    assert {name for name in after if after[name] != before[name]} == {"decode-0"}
    assert answers(plan)
    still = running.machine.run("readlink", f"/etc/dync/{plan.name}/current").strip()
    assert still == generation


@pytest.mark.long
def test_an_upgrade_that_answers_and_never_caches_goes_back(running: Running, plan: Plan) -> None:
    before = running.pids(plan)
    running.build(PROFILE, f"workers[1].{OWN_CACHE_OFF}", "workers[0].engine_args.max_num_seqs=8")
    place = running.folder / PROFILE.stem / "plan.json"
    data = json.loads(place.read_text("utf-8"))
    [prefill] = [process for process in data["processes"] if process["name"] == "prefill-0"]
    prefill["argv"] += ["--kv-transfer-config", NIXL_ALONE]  # wins over the engine's file
    place.write_text(json.dumps(data), "utf-8")
    done = running.install(PROFILE, "--overwrite")
    assert done.returncode == 1
    assert "dync-disagg-cpu.target answers, but is not proved:" in done.stderr
    assert "0 of 4 chunks of the new prompt were stored" in done.stderr
    assert ", which serves" in done.stderr
    after = running.pids(plan)
    assert {name for name in after if after[name] != before[name]} == {"prefill-0"}
    assert fresh_hits(plan, "prefill-0") > 0


def test_stop_leaves_nothing(running: Running, plan: Plan) -> None:
    begun = time.monotonic()
    running.machine.run("systemctl", "stop", f"dync-{plan.name}.target")
    until(lambda: running.states(plan) == {"inactive"}, within_s=90)
    print(f"measured: stop: {time.monotonic() - begun:.0f} s")
    assert running.machine.try_run("ps", "-o", "pid=", "-u", "dync").stdout == ""
    assert running.machine.run("ls", "/dev/shm") == ""


def test_it_is_there_again_after_the_power_was_cut(running: Running, plan: Plan) -> None:
    running.machine.cut_power()
    assert not answers(plan)
    running.machine.boot()
    begun = time.monotonic()
    until(lambda: running.show(f"dync-{plan.name}.target", "ActiveState") == "active")
    assert answers(plan)
    print(f"measured: boot until it serves: {time.monotonic() - begun:.0f} s")


def test_uninstall_takes_everything_away(running: Running, plan: Plan) -> None:
    assert running.dync("uninstall", plan.name, "--purge").returncode == 0
    left = running.machine.run(
        "find", "/etc", "/usr/local/lib", "/var/lib/dync", "-name", "*dync-*"
    )
    assert left == ""
    assert running.machine.run("ls", "/etc/dync", "/var/lib/dync", "/var/cache/dync").split() == [
        *("/etc/dync:", "/var/cache/dync:", "/var/lib/dync:")
    ]


@contextmanager
def steady_load(plan: Plan) -> Iterator[list[tuple[float, str]]]:
    """Send requests one after another from two clients; give (when, why) of each that failed."""
    failed: list[tuple[float, str]] = []
    over = threading.Event()
    sent = [0, 0]

    def client(number: int) -> None:
        while not over.is_set():
            begun = time.monotonic()
            try:
                ask(plan.url, plan.served_name, f"Count to {sent}", max_tokens=8, timeout_s=60)
            except (OSError, ValueError) as error:
                failed.append((begun, repr(error)))
            sent[number] += 1
            time.sleep(0.2)

    clients = [threading.Thread(target=client, args=(number,)) for number in range(2)]
    for thread in clients:
        thread.start()
    try:
        yield failed
    finally:
        over.set()
        for thread in clients:
            thread.join()
        print(f"measured: {sum(sent)} requests under the upgrade, {len(failed)} failed: {failed}")


@pytest.mark.long
def test_an_upgrade_of_one_replica_loses_no_request(running: Running) -> None:
    profile = running.folder / "two.yaml"
    (running.folder / "agg-cpu.yaml").write_text((PROFILES / "agg-cpu.yaml").read_text("utf-8"))
    profile.write_text(TWO)
    plan = running.build(profile)
    assert running.install(profile).returncode == 0
    before = running.pids(plan)
    running.build(profile, "workers[1].engine_args.max_num_seqs=8")
    with steady_load(plan) as failed:
        assert running.install(profile).returncode == 0
    after = running.pids(plan)
    assert {name for name in after if after[name] != before[name]} == {"aggregated-1"}
    assert failed == []
    assert running.dync("uninstall", "two", "--purge").returncode == 0


@pytest.mark.long
def test_dynamo_comes_back(running: Running, dynamo_prefix: Path) -> None:
    assert dynamo_prefix == cache_folder()
    profile = PROFILES / "dynamo-disagg-cpu.yaml"
    endpoints = (f"workers[{index}].env.DYN_ENDPOINT_TYPES=completions" for index in (0, 1))
    plan = running.build(profile, *endpoints, f"workers[1].{OWN_CACHE_OFF}")
    assert running.install(profile, "--create-user").returncode == 0
    assert fresh_hits(plan, "prefill-0") > 0
    for process in ("frontend", "decode-0", "prefill-0"):
        comes_back(running, plan, process, f"Dynamo's {process}")
    until(lambda: running.dync("status", plan.name).returncode == 0)
    assert fresh_hits(plan, "prefill-0") > 0
    assert running.dync("uninstall", plan.name, "--purge").returncode == 0
