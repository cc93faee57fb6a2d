"""Units of a user's own manager: installed by that user, started with the same argv."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from compiler.emit.bundle import emit
from compiler.library import templates
from compiler.plan import Plan
from compiler.write.bundle import write
from tests.hostile.test_round_trip import as_yaml
from tests.support import compile_text, plan_in
from tests.systemd.machine import PATH, Machine
from tests.systemd.test_units import ONCE, SYSTEMDS_OWN, stand_in

DYNC = str(Path(sys.executable).with_name("dync"))
USER = "somebody"
TEXT = 'it\'s 100% "$HOME" \\ ö\n'


class User:
    """One account of the machine with a systemd of its own."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        machine.run("useradd", "--create-home", USER)
        self.uid = machine.run("id", "-u", USER).strip()
        self.runtime = f"/run/user/{self.uid}"
        machine.run("install", "-d", "-m", "700", "-o", USER, self.runtime)
        settings = (f"--setenv=XDG_RUNTIME_DIR={self.runtime}", f"--setenv=HOME=/home/{USER}")
        bare = ("env", "-u", "SYSTEMD_UNIT_PATH", f"HOME=/home/{USER}", "/lib/systemd/systemd")
        options = ("--unit=user-manager", f"--uid={USER}", "-p", "Delegate=yes", *settings)
        machine.run("systemd-run", *options, *bare, "--user")
        give_up = time.monotonic() + 20
        while self.try_run("systemctl", "--user", "show", "-p", "Version"):
            assert time.monotonic() < give_up, machine.run("journalctl", "-n", "50", "--no-pager")
            time.sleep(0.1)

    def command(self, *words: str) -> tuple[str, ...]:
        environment = (f"XDG_RUNTIME_DIR={self.runtime}", f"HOME=/home/{USER}", f"PATH={PATH}")
        ids = (f"--reuid={USER}", f"--regid={USER}", "--init-groups")
        return ("setpriv", *ids, "env", "-i", *environment, *words)

    def try_run(self, *words: str) -> int:
        return self.machine.try_run(*self.command(*words)).returncode

    def run(self, *words: str) -> str:
        return self.machine.run(*self.command(*words))


@pytest.fixture(scope="module")
def user(machine: Machine) -> Iterator[User]:
    made = User(machine)
    yield made
    machine.run("systemctl", "stop", "user-manager.service")


@pytest.fixture(scope="module")
def plan(shared: Path) -> Plan:
    folder = shared / "user"
    folder.mkdir()
    folder.chmod(0o755)
    profile = {
        "name": "mine",
        "stack": "vllm-0.32",
        "topology": "agg",
        "accelerator": "cpu",
        "model": {"id": "a/b", "served_name": f"m{TEXT}"},
        "lmcache": {"chunk_size": 128},
        "workers": [{"role": "aggregated", "env": {"A": TEXT}}],
        "deploy": {"prefix": f"{folder}/prefix"},
    }
    made = plan_in(compile_text(as_yaml(profile)))
    stand_in(made)
    write(emit(made, templates()), folder / "bundle")
    return made


def test_a_user_installs_starts_and_uninstalls(user: User, plan: Plan, shared: Path) -> None:
    bundle, written = str(shared / "user" / "bundle"), shared / "written"
    written.mkdir()
    written.chmod(0o777)
    user.run(DYNC, "install", bundle, "--user", "--no-start")
    config = f"/home/{USER}/.config"
    assert user.run("readlink", f"{config}/dync/mine/current") == "generations/1\n"
    assert "enabled" in user.run("systemctl", "--user", "is-enabled", "dync-mine.target")
    for process in plan.processes:
        unit = f"dync-mine-{process.name}.service"
        folder = user.machine.at(f"{config}/systemd/user/{unit}.d")
        folder.mkdir(parents=True)
        out = written / f"{process.name}.out"
        (folder / "once.conf").write_text(ONCE.format(out=out))
        user.run("systemctl", "--user", "daemon-reload")
        user.run("systemctl", "--user", "start", unit)
        argv, pairs, place = json.loads(out.read_text())
        assert argv == list(process.argv[1:])
        env = dict(pair.split("=", 1) for pair in pairs)
        assert {name: env.get(name) for name in process.env} == process.env
        others = set(env) - set(process.env) - SYSTEMDS_OWN
        assert env["HF_HOME"] == f"/home/{USER}/.cache/dync/mine/huggingface"
        assert not {name for name in others if name.startswith("LMCACHE")}
        assert place.endswith(f"{config}/dync/mine/generations/1")
    gone = user.run(DYNC, "uninstall", "mine", "--user", "--purge")
    assert "kept drop-in" in gone
    left = user.run("find", f"/home/{USER}", "-name", "*dync-*", "-not", "-name", "*.d")
    assert left == ""


def test_a_variable_of_the_manager_is_refused(user: User, plan: Plan, shared: Path) -> None:
    assert plan.name == "mine"
    user.run("systemctl", "--user", "set-environment", "LMCACHE_CONFIG_FILE=/x")
    words = user.command(DYNC, "install", str(shared / "user" / "bundle"), "--user")
    done = user.machine.try_run(*words)
    assert done.returncode == 1
    assert "systemctl --user unset-environment LMCACHE_CONFIG_FILE" in done.stderr
