"""The emitted units: what systemd says of them, and what it starts from them."""

from __future__ import annotations

import json
import shutil
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import pytest

from compiler.bundle_paths import UNITS_FOLDER, USER_UNITS_FOLDER
from compiler.deploy.systemd import Systemd
from compiler.emit.bundle import emit
from compiler.emit.systemd.unit_names import (
    process_unit,
    service_units,
    target_unit,
)
from compiler.library import templates
from compiler.plan import Plan
from compiler.process import Kind, Process
from compiler.write.bundle import write
from tests.hostile.test_round_trip import HOSTILE, as_yaml, built, profile_with
from tests.proxy.conftest import make_certificate
from tests.support import PROFILES, ROOT, compile_file, compile_text, plan_in
from tests.systemd.machine import Machine

PROGRAM = f"""#!{sys.executable} -IS
import json, os, sys
words = open("/proc/self/cmdline", "rb").read().split(b"\\0")[3:-1]
pairs = open("/proc/self/environ", "rb").read().split(b"\\0")[:-1]
seen = [[item.decode("utf-8", "surrogateescape") for item in items] for items in (words, pairs)]
print(json.dumps([*seen, os.getcwd()]), flush=True)
"""
# What systemd itself gives: systemd.exec(5), ENVIRONMENT VARIABLES IN SPAWNED PROCESSES.
SYSTEMDS_OWN = {
    *("CACHE_DIRECTORY", "RUNTIME_DIRECTORY", "STATE_DIRECTORY", "CREDENTIALS_DIRECTORY"),
    *("INVOCATION_ID", "JOURNAL_STREAM", "LOGNAME", "SHELL", "SYSTEMD_EXEC_PID", "USER"),
}
# Only what a program prints on its way is wanted: it is no server, and ends at once.
ONCE = (
    "[Service]\nType=oneshot\nRestart=no\nExecStartPost=\nExecStopPost=\n"
    "StandardOutput=truncate:{out}\n"
)


def stand_in(plan: Plan) -> None:
    """Put a program that tells how it was started where the plan's stack would be."""
    program = Path(plan.stack_program)
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text(PROGRAM)
    program.chmod(0o755)


def host_environment(plan: Plan, process: Process) -> dict[str, str]:
    cache = f"/var/cache/dync/{plan.name}"
    own = f"{cache}/{process.name}"
    found = {
        "HOME": f"/var/lib/dync/{plan.name}",
        "HF_HOME": f"{cache}/huggingface",
        "XDG_CACHE_HOME": own,
    }
    if process.kind is Kind.WORKER:
        found["VLLM_CACHE_ROOT"] = f"{own}/vllm"
        found["TRITON_CACHE_DIR"] = f"{own}/triton"
        found["TORCHINDUCTOR_CACHE_DIR"] = f"{own}/inductor"
        found["PROMETHEUS_MULTIPROC_DIR"] = f"/run/dync-{plan.name}/{process.name}"
        found["VLLM_RPC_BASE_PATH"] = f"/run/dync-{plan.name}/{process.name}"
    return found


INSTALL = """
import sys
from pathlib import Path
from compiler.deploy.installation import read_plan, system_host
from compiler.deploy.install.install import Choices, install
from compiler.library import known_stack
for bundle in sys.argv[1:]:
    stack = known_stack(read_plan(Path(bundle)).stack)
    install(Path(bundle), system_host(Path("/")), Choices(start=False), print, stack=stack)
"""


def installed(machine: Machine, *bundles: Path) -> None:
    """Install bundles in one run; a command each would take half a second more."""
    machine.run(sys.executable, "-c", INSTALL, *map(str, bundles), PYTHONPATH=str(ROOT))


def start_all(machine: Machine, shared: Path, plans: list[Plan]) -> None:
    for plan in plans:
        for process in of_the_stack(plan):
            unit = f"dync-{plan.name}-{process.name}.service"
            folder = machine.at(f"/run/systemd/system/{unit}.d")
            folder.mkdir()
            out = shared / f"{plan.name}-{process.name}.out"
            (folder / "once.conf").write_text(ONCE.format(out=out))
    machine.run("systemctl", "daemon-reload")
    units = (
        process_unit(plan.name, process.name) for plan in plans for process in of_the_stack(plan)
    )
    machine.run("systemctl", "start", *units)


def of_the_stack(plan: Plan) -> list[Process]:
    """Return what the stand-in program stands for: a proxy runs the distribution's own."""
    return [process for process in plan.processes if process.kind is not Kind.PROXY]


def processes_of(plan: Plan) -> tuple[str, ...]:
    return tuple(process_unit(plan.name, process.name) for process in plan.processes)


def assert_started_as_planned(shared: Path, plan: Plan, extra: Mapping[str, str]) -> None:
    for process in of_the_stack(plan):
        argv, pairs, folder = json.loads((shared / f"{plan.name}-{process.name}.out").read_text())
        env = dict(pair.split("=", 1) for pair in pairs)
        assert len(env) == len(pairs), "a variable is there twice"
        assert argv == list(process.argv[1:])
        wanted = {**host_environment(plan, process), **process.env}
        if process.secrets:
            wanted.update(extra)
        assert {name: value for name, value in env.items() if name not in SYSTEMDS_OWN} == wanted
        assert folder.endswith(f"/etc/dync/{plan.name}/generations/1")


def test_started_processes_are_what_the_plan_says(machine: Machine, shared: Path) -> None:
    """The same hostile texts as for the scripts, in argv, environment and program path."""
    plans = []
    for number, text in enumerate([*HOSTILE.values(), "\ufffe \ufdd0"]):
        name = f"hostile-{number}"
        worker = {"role": "aggregated", "env": {"A": text, "B_2": f"={text}"}}
        plain = text.replace("/", "").replace("\0", "")
        profile = profile_with(
            text,
            f"{shared}/{name}/pre{plain}fix",
            name=name,
            topology="agg",
            workers=[worker],
        )
        made = built(shared / name, profile)
        stand_in(made.plan)
        weights = machine.at(made.plan.model)
        weights.mkdir(parents=True, exist_ok=True)
        for file in ("config.json", "model.safetensors"):
            (weights / file).write_text("{}")
        plans.append(made.plan)
    installed(machine, *(shared / plan.name / "the bundle" for plan in plans))
    start_all(machine, shared, plans)
    for plan in plans:
        assert_started_as_planned(shared, plan, {})
    assert not list(shared.rglob("pwned"))


def test_a_secret_reaches_the_process_and_nothing_else(machine: Machine, shared: Path) -> None:
    key = "hush 'it\"s$ %40"
    machine.at("/etc/dync key").mkdir()
    file = machine.at("/etc/dync key/100% key")
    file.write_text(key + "\n")
    file.chmod(0o600)
    profile = {
        "name": "secret",
        "stack": "vllm-0.32",
        "topology": "agg",
        "accelerator": "cpu",
        "model": {"id": "a/b"},
        "frontend": {"api_key_file": "/etc/dync key/100% key", "port": 28870},
        "lmcache": {"chunk_size": 128},
        "workers": [{"role": "aggregated"}],
        "deploy": {"prefix": f"{shared}/secret", "first_port": 28871},
    }
    plan = plan_in(compile_text(as_yaml(profile)))
    stand_in(plan)
    write(emit(plan, templates()), shared / "secret-bundle")
    installed(machine, shared / "secret-bundle")
    start_all(machine, shared, [plan])
    assert_started_as_planned(shared, plan, {"VLLM_API_KEY": key})
    for unit in processes_of(plan):
        assert "hush" not in machine.run("systemctl", "show", unit)
        assert "hush" not in machine.run("systemctl", "cat", unit)
    # Started for good, it is ready only when a request with the key was answered.
    server = (Path(__file__).parent / "stand_in.py").read_text("utf-8")
    Path(plan.stack_program).write_text(f"#!/usr/bin/env -S python3 -I\n{server}")
    for process in of_the_stack(plan):
        unit = process_unit(plan.name, process.name)
        shutil.rmtree(machine.at(f"/run/systemd/system/{unit}.d"))
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", *processes_of(plan))
    machine.run("systemctl", "start", f"dync-{plan.name}-serving.service")
    # nginx runs in its sandbox, as the deployment's account, and asks for the key.
    base = plan.url.removesuffix("/v1")
    given = {"Authorization": f"Bearer {key}"}
    assert [asked(f"{base}/health"), asked(f"{base}/x"), asked(f"{base}/x", given)] == [
        200,
        401,
        200,
    ]
    main = machine.run("systemctl", "show", "-P", "User", f"dync-{plan.name}-proxy.service")
    assert main.strip() == plan.user
    machine.run("systemctl", "stop", f"dync-{plan.name}.target", *processes_of(plan))


def asked(url: str, headers: Mapping[str, str] | None = None, certificate: str = "") -> int:
    context = ssl.create_default_context(cafile=certificate) if certificate else None
    if context:
        context.check_hostname = False
    try:
        request = urllib.request.Request(url, headers=dict(headers or {}))
        with urllib.request.urlopen(request, timeout=30, context=context) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_a_proxy_has_a_low_port_and_files_that_root_alone_reads(
    machine: Machine, shared: Path
) -> None:
    folder = machine.at("/etc/tls of root")
    folder.mkdir(mode=0o700)
    certificate, key = make_certificate(folder)
    profile = {
        "name": "low",
        "stack": "vllm-0.32",
        "topology": "disagg",
        "accelerator": "cpu",
        "model": {"id": "a/b"},
        "frontend": {
            "port": 893,
            "tls": {
                "certificate": f"/etc/tls of root/{certificate.name}",
                "key": f"/etc/tls of root/{key.name}",
            },
        },
        "lmcache": {"chunk_size": 128},
        "workers": [{"role": "prefill"}, {"role": "decode"}],
        "deploy": {"prefix": f"{shared}/low", "first_port": 28880},
    }
    plan = plan_in(compile_text(as_yaml(profile)))
    stand_in(plan)
    server = (Path(__file__).parent / "stand_in.py").read_text("utf-8")
    Path(plan.stack_program).write_text(f"#!/usr/bin/env -S python3 -I\n{server}")
    write(emit(plan, templates()), shared / "low-bundle")
    installed(machine, shared / "low-bundle")
    try:
        machine.run("systemctl", "start", *processes_of(plan))
        assert asked("https://127.0.0.1:893/x", certificate=str(certificate)) == 200
    finally:
        machine.run("systemctl", "stop", f"dync-{plan.name}.target", *processes_of(plan))


def verified(folder: Path, plan: Plan, *, is_system: bool = True) -> list[str]:
    units = (*service_units(plan, is_system=is_system), target_unit(plan.name))
    return Systemd(is_system).verify(folder, units)


@pytest.mark.parametrize("profile", sorted(PROFILES.glob("*.yaml")), ids=lambda path: path.stem)
def test_verify_is_silent(profile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_in(compile_file(profile, (f"deploy.prefix={tmp_path}/prefix",)))
    stand_in(plan)
    write(emit(plan, templates()), tmp_path / "bundle")
    assert verified(tmp_path / "bundle" / UNITS_FOLDER, plan) == []
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert verified(tmp_path / "bundle" / USER_UNITS_FOLDER, plan, is_system=False) == []


FAULTS = {
    "specifier in Environment": ("Environment=", 'Environment="A=%40"'),
    "JSON not quoted in Environment": ("Environment=", 'Environment=A={"a": "b"}'),
    "unknown key": ("KillMode=mixed", "KillMod=mixed"),
    "wrong KillMode": ("KillMode=mixed", "KillMode=mxed"),
    "wrong Restart": ("Restart=always", "Restart=allways"),
    "wrong LimitMEMLOCK": ("LimitMEMLOCK=infinity", "LimitMEMLOCK=endless"),
    "unknown escape": ("ExecStart=", r'ExecStart=/bin/echo "\q"'),
    "specifier in ExecStart": ("ExecStart=", "ExecStart=/bin/echo %40"),
    "missing program": ("ExecStart=", "ExecStart=/nowhere/python"),
    "relative program": ("ExecStart=", "ExecStart=bin/python"),
    "program not executable": ("ExecStart=", "ExecStart=/etc/passwd"),
    "no ExecStart": ("ExecStart=", ""),
}


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_planted_fault_is_caught(fault: str, tmp_path: Path) -> None:
    key, line = FAULTS[fault]
    plan = plan_in(compile_file(PROFILES / "agg-cpu.yaml", (f"deploy.prefix={tmp_path}/prefix",)))
    stand_in(plan)
    write(emit(plan, templates()), tmp_path / "bundle")
    unit = tmp_path / "bundle" / UNITS_FOLDER / "dync-agg-cpu-aggregated-0.service"
    lines = unit.read_text().splitlines()
    spot = next(n for n, found in enumerate(lines) if found.startswith(key))
    unit.write_text("\n".join([*lines[:spot], line, *lines[spot + 1 :]]) + "\n")
    assert verified(unit.parent, plan) != []


def test_a_missing_dependency_is_caught(tmp_path: Path) -> None:
    plan = plan_in(compile_file(PROFILES / "agg-cpu.yaml", (f"deploy.prefix={tmp_path}/prefix",)))
    stand_in(plan)
    write(emit(plan, templates()), tmp_path / "bundle")
    folder = tmp_path / "bundle" / UNITS_FOLDER
    (folder / service_units(plan, is_system=True)[-1]).unlink()
    done = subprocess.run(
        ["systemd-analyze", "verify", str(folder / target_unit(plan.name))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "not found" in done.stdout + done.stderr
    assert Systemd(True).verify(folder, [target_unit(plan.name)]) != []


def test_json_that_lost_its_quotes_is_no_fault_to_verify_but_to_the_round_trip(
    machine: Machine, shared: Path
) -> None:
    """What systemd-analyze lets pass: why argv is read back from started processes."""
    path = machine.at("/run/systemd/system/silent.service")
    path.write_text('[Service]\nType=oneshot\nExecStart=/usr/bin/printf "%%s " {"a":"b"}\n')
    assert Systemd(True).verify(path.parent, [path.name]) == []
    path.write_text(path.read_text() + f"StandardOutput=truncate:{shared}/silent\n")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", "silent.service")
    assert (shared / "silent").read_text().strip() != '{"a":"b"}'
    path.unlink()
