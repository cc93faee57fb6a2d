"""Hosts that cannot take a deployment: a clear error, and nothing half done."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from compiler.emit.bundle import emit
from compiler.library import templates
from compiler.write.bundle import write
from tests.support import DISAGG, plan_of
from tests.systemd.machine import PATH, Machine
from tests.systemd.test_units import stand_in

DYNC = str(Path(sys.executable).with_name("dync"))
READ_ONLY = "mount --bind /etc /etc && mount -o remount,bind,ro /etc"
FULL = "mkdir -p /etc/dync && mount -t tmpfs -o size=24k none /etc/dync"


@pytest.fixture(scope="module")
def bundle(shared: Path) -> Path:
    folder = shared / "refused"
    plan = plan_of(DISAGG, f"deploy.prefix={folder}/prefix", "name=refused")
    stand_in(plan)
    write(emit(plan, templates()), folder / "bundle")
    return folder / "bundle"


def files(machine: Machine) -> str:
    places = ("/etc/dync", "/etc/systemd", "/usr/local/lib/systemd", "/etc/passwd")
    return machine.try_run("find", *places, "-path", "*refused*", "-o", "-name", "passwd*").stdout


def refused(machine: Machine, *command: str, **environment: str) -> str:
    before = files(machine)
    done = machine.try_run(*command, **environment)
    assert done.returncode == 1, done.stdout + done.stderr
    assert files(machine) == before
    assert "Traceback" not in done.stderr
    return done.stderr


def within(mounts: str, bundle: Path, *options: str) -> tuple[str, ...]:
    script = f"{mounts} && exec {DYNC} install {bundle} {' '.join(options)}"
    return ("unshare", "--mount", "--propagation", "private", "bash", "-c", script)


def test_an_ordinary_user(machine: Machine, bundle: Path) -> None:
    ordinary = ("setpriv", "--reuid=dync", "--regid=dync", "--clear-groups")
    said = refused(machine, *ordinary, DYNC, "install", str(bundle))
    assert "sudo" in said
    assert "--user" in said


def test_no_systemd(machine: Machine, bundle: Path) -> None:
    said = refused(machine, "env", "PATH=/nowhere", DYNC, "install", str(bundle))
    assert "apt-get install systemd" in said
    hidden = "mount -t tmpfs none /run"
    assert "systemd does not run this machine" in refused(machine, *within(hidden, bundle))


def test_a_read_only_etc(machine: Machine, bundle: Path) -> None:
    said = refused(machine, *within(READ_ONLY, bundle, "--no-start"))
    assert "cannot write /etc/dync/refused: Read-only file system" in said


def test_a_full_disk(machine: Machine, bundle: Path) -> None:
    said = refused(machine, *within(FULL, bundle, "--no-start"))
    assert "No space left on device" in said


@pytest.mark.parametrize("name", ["LMCACHE_CONFIG_FILE", "VLLM_PORT"])
def test_a_variable_that_systemd_hands_to_all(machine: Machine, bundle: Path, name: str) -> None:
    machine.run("systemctl", "set-environment", f"{name}=x")
    try:
        said = refused(machine, DYNC, "install", str(bundle))
        assert f"systemctl unset-environment {name}" in said
    finally:
        machine.run("systemctl", "unset-environment", name)


def test_weights_that_the_account_cannot_read(machine: Machine, shared: Path) -> None:
    folder = shared / "closed"
    weights = folder / "model"
    weights.mkdir(parents=True)
    (weights / "model.safetensors").write_text("x")
    (weights / "model.safetensors").chmod(0o600)
    plan = plan_of(DISAGG, f"deploy.prefix={folder}/prefix", f"model.id={weights}", "name=refused")
    stand_in(plan)
    write(emit(plan, templates()), folder / "bundle")
    said = refused(machine, DYNC, "install", str(folder / "bundle"))
    assert f"the account dync cannot read {weights}/model.safetensors" in said
    assert f"chmod -R a+rX {weights}" in said


def test_a_lock_of_another_command(machine: Machine, bundle: Path) -> None:
    hold = "mkdir -p /etc/dync/refused && exec flock /etc/dync/refused"
    script = f"{hold} {DYNC} install {bundle} --no-start"
    done = machine.try_run("bash", "-c", script)
    assert done.returncode == 1
    assert "another dync works on /etc/dync/refused" in done.stderr
    machine.run("rmdir", "/etc/dync/refused")


def test_create_user_makes_the_account(machine: Machine, shared: Path) -> None:
    folder = shared / "made"
    plan = plan_of(DISAGG, f"deploy.prefix={folder}/prefix", "name=made", "deploy.user=dync-made")
    stand_in(plan)
    write(emit(plan, templates()), folder / "bundle")
    without = machine.try_run(DYNC, "install", str(folder / "bundle"), "--no-start")
    assert "there is no account dync-made" in without.stderr
    options = ("--no-start", "--create-user")
    machine.run(DYNC, "install", str(folder / "bundle"), *options)
    assert "dync-made" in machine.run("getent", "passwd", "dync-made")
    machine.run(DYNC, "uninstall", "made", "--purge")


def test_what_passes_is_kept_for_root_alone(machine: Machine, bundle: Path) -> None:
    token = 'hf_"$x'
    words = (DYNC, "install", str(bundle), "--no-start", "--pass", "HF_TOKEN")
    assert "HF_TOKEN is not set in your shell" in refused(machine, *words)
    machine.run(*words, HF_TOKEN=token, PATH=PATH)
    kept = machine.at("/etc/dync/refused/environment")
    assert kept.stat().st_mode & 0o777 == 0o600
    machine.run(DYNC, "uninstall", "refused")
    assert kept.exists()
    machine.run(*words, HF_TOKEN=token)
    machine.run(DYNC, "uninstall", "refused", "--purge")
    assert not kept.exists()
