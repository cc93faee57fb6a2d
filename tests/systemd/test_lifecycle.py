"""What runs after each command, on a real systemd; small servers stand in for the engines.

The same with real engines is tests/engine/test_systemd.py.
"""

from __future__ import annotations

import json
import socket
import time

import pytest

from tests.systemd.life import NAMES, PROFILE, Life

pytestmark = pytest.mark.engine  # no engines, but a minute


@pytest.fixture
def life(installed: Life) -> Life:
    """Return the deployment in its first form, running."""
    installed.build()
    installed.install()
    return installed


def test_installing_again_restarts_nothing(life: Life) -> None:
    assert life.restarted_by(life.install) == set()
    status = life.dync("status", "life")
    assert status.returncode == 0
    assert status.stdout.count(" ready ") == 4


@pytest.mark.parametrize(
    ("override", "restarted"),
    [
        ("workers[1].env.A=b", {"aggregated-1"}),
        ("frontend.routing=random", {"router"}),
        ("lmcache.cpu_cache_gb=0.75", {"lmcache", "aggregated-0", "aggregated-1"}),
    ],
)
def test_only_what_changed_restarts(life: Life, override: str, restarted: set[str]) -> None:
    life.build(override)
    assert life.restarted_by(life.install) == restarted
    before = life.generation()
    assert life.restarted_by(lambda: life.dync("rollback", "life")) == restarted
    assert life.generation() != before


def test_replicas_restart_one_after_the_other(life: Life) -> None:
    life.build("workers[0].env.A=b", "workers[1].env.A=b")
    life.install()
    exited = [
        life.show(f"-aggregated-{n}.service", "ExecMainStartTimestampMonotonic") for n in (0, 1)
    ]
    ready = [life.show(f"-aggregated-{n}.service", "ActiveEnterTimestampMonotonic") for n in (0, 1)]
    assert int(exited[1]) > int(ready[0])


def test_what_does_not_start_goes_back(life: Life) -> None:
    before = life.generation()
    pids = life.pids()
    life.build("workers[1].env.STAND_IN_FAILS=1")
    done = life.try_install()
    assert done.returncode == 1
    assert "dync-life-aggregated-1.service ended" in done.stderr
    assert "times before it was ready; went back to generation" in done.stderr
    assert "journalctl --unit dync-life-aggregated-1.service" in done.stderr
    assert life.generation() == before
    after = life.pids()
    assert {name for name in NAMES if after[name] != pids[name]} == {"aggregated-1"}
    assert life.dync("status", "life").returncode == 0


def test_what_is_not_ready_in_time_goes_back(life: Life) -> None:
    before = life.generation()
    life.build("workers[1].env.STAND_IN_STARTS_IN=60", "deploy.ready_timeout_s=1")
    done = life.try_install()
    assert done.returncode == 1
    assert "which serves" in done.stderr
    assert life.generation() == before


def test_what_answers_and_is_not_proved_goes_back(life: Life) -> None:
    before, pids = life.generation(), life.pids()
    life.build("workers[1].env.A=unproved")
    done = life.dync("install", str(life.folder / "bundle"))
    assert done.returncode == 1
    assert "dync-life.target answers, but is not proved:\n  " in done.stderr
    assert "\n  lmcache cache-server: does not answer /status" in done.stderr
    assert "went back to generation" in done.stderr
    assert " serves at " not in done.stdout
    assert life.generation() == before
    after = life.pids()
    assert {name for name in NAMES if after[name] != pids[name]} == {"aggregated-1"}
    assert "not proved here: dync verify life" in life.dync("status", "life").stdout


def test_what_was_current_already_is_left_to_systemd(life: Life) -> None:
    """Installed without a start, then started: there is nothing to go back to."""
    life.build("workers[1].env.STAND_IN_FAILS=1")
    life.install("--no-start")
    done = life.try_install()
    assert done.returncode == 1
    assert "stays in place (dync rollback life leaves it)" in done.stderr
    pids = life.pids()
    assert "0" not in {pids[name] for name in ("lmcache", "aggregated-0", "router")}
    assert life.dync("rollback", "life").returncode == 0
    assert life.dync("status", "life").returncode == 0


def test_processes_come_and_go(life: Life) -> None:
    life.build(text=PROFILE.replace("  - {role: aggregated}\n", "", 1))
    life.machine.run("systemctl", "stop", "dync-life-router.service")
    life.install()
    assert life.show("-aggregated-1.service", "LoadState") == "not-found"
    assert life.show("-router.service", "LoadState") == "not-found"
    assert life.dync("status", "life").returncode == 0
    life.build()
    assert "starting" in life.install()
    assert "0" not in life.pids().values()


def test_an_interrupted_install_is_finished_by_the_next(life: Life) -> None:
    """Killed after the switch and before the restart, a new process is due and not yet there."""
    life.build("workers[1].env.A=interrupted")
    life.install("--no-start")
    assert life.restarted_by(life.install) == {"aggregated-1"}


@pytest.mark.parametrize("command", ["install", "uninstall"])
def test_what_an_older_generation_runs_on_is_named_and_ended(life: Life, command: str) -> None:
    """Killed after the switch and before a stop: two units run on that have no file any more."""
    life.build(text=PROFILE.replace("  - {role: aggregated}\n", "", 1))
    life.install("--no-start")
    left = {f"dync-life-{name}.service" for name in ("aggregated-1", "router")}
    said = life.dync("status", "life", "--format", "json")
    assert set(json.loads(said.stdout)["left"]) == left
    assert {name for name, pid in life.pids().items() if pid == "0"} == set()
    if command == "install":
        life.install()
    else:
        assert life.dync("uninstall", "life").returncode == 0
    pids = life.pids()
    assert (pids["aggregated-1"], pids["router"]) == ("0", "0")
    if command == "install":
        assert json.loads(life.dync("status", "life", "--format", "json").stdout)["left"] == []


def test_a_killed_process_is_started_again(life: Life) -> None:
    def kill() -> None:
        before = life.pids()
        life.machine.run("kill", "-KILL", before["lmcache"])
        give_up = time.monotonic() + 20
        while life.dync("status", "life").returncode or life.pids()["lmcache"] == before["lmcache"]:
            assert time.monotonic() < give_up
            time.sleep(0.2)

    assert life.restarted_by(kill) == {"lmcache", "aggregated-0", "aggregated-1"}


def test_stopping_and_starting_the_target(life: Life) -> None:
    life.machine.run("systemctl", "stop", "dync-life.target")
    give_up = time.monotonic() + 20  # systemctl waits for the target alone
    while set(life.pids().values()) != {"0"}:
        assert time.monotonic() < give_up
    assert life.dync("status", "life").returncode == 1
    life.machine.run("systemctl", "start", "dync-life.target")
    assert life.dync("status", "life").returncode == 0


def test_an_operator_may_disable_mask_and_enable(life: Life) -> None:
    """What `systemctl` does to units must not take them away, nor pin them to a generation."""
    for words in (
        ("disable", "dync-life.target"),
        ("enable", "dync-life.target"),
        ("mask", "dync-life-router.service"),
        ("unmask", "dync-life-router.service"),
    ):
        life.machine.run("systemctl", *words)
    life.build("workers[1].env.A=operator")
    assert life.restarted_by(life.install) == {"aggregated-1"}
    assert life.machine.run("systemctl", "is-enabled", "dync-life.target").strip() == "enabled"


def test_a_failed_first_installation_leaves_nothing(life: Life) -> None:
    assert life.dync("uninstall", "life", "--purge").returncode == 0
    life.build("workers[0].env.STAND_IN_FAILS=1")
    done = life.try_install()
    assert done.returncode == 1
    assert "nothing is installed now" in done.stderr
    assert set(life.pids().values()) == {"0"}
    assert life.machine.try_run("ls", "/etc/dync/life").stdout == ""
    life.build()
    done = life.dync("install", str(life.folder / "bundle"))
    assert "answers, but is not proved" in done.stderr
    assert "nothing is installed now" in done.stderr
    assert life.machine.try_run("ls", "/etc/dync/life").stdout == ""
    life.install()


def test_a_port_of_another_program_is_refused_before_anything_is_changed(life: Life) -> None:
    """A port of the running deployment is none: every upgrade above finds all of its own taken."""
    before, pids = life.generation(), life.pids()
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        life.build(f"frontend.port={port}")
        done = life.try_install()
    assert done.returncode == 1
    assert f"  port {port}: router wants it (http); it is taken" in done.stderr
    assert "or put it in place only: --no-start" in done.stderr
    assert (life.generation(), life.pids()) == (before, pids)
