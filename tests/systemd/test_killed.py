"""Installing, going back and uninstalling, killed at any moment on a real systemd.

What is left is one whole generation, each process that runs is named by `dync status` or ended by
the next command, and that command finishes what was begun.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator

import pytest

from compiler.plan import Plan
from tests.support import ROOT
from tests.systemd.life import DYNC, PROFILE, Life

pytestmark = [pytest.mark.engine, pytest.mark.long]  # no engines, but minutes
ONE = PROFILE.replace("  - {role: aggregated}\n", "", 1)
"""One worker and no router: two units fewer."""
KILLS = 6


def killed(life: Life, after_s: float, *words: str) -> bool:
    """Run a command that is killed after a while; return whether it was."""
    limit = ("timeout", "-s", "KILL", f"{after_s:.3f}")
    done = life.machine.try_run(*limit, *DYNC, *words, PYTHONPATH=str(ROOT))
    assert "Traceback" not in done.stderr
    return done.returncode in (137, -9)


def running(life: Life) -> set[str]:
    """Return the units of which something runs, whether or not a file of them is there."""
    listed = life.machine.run(
        "systemctl", "list-units", "--all", "--plain", "--no-legend", "dync-life-*.service"
    )
    rows = [line.split() for line in listed.splitlines()]
    return {row[0] for row in rows if row[2] in ("active", "activating", "deactivating")}


def units_of(plan: Plan) -> set[str]:
    return {f"dync-life-{process.name}.service" for process in plan.processes}


def assert_settled(life: Life, plan: Plan) -> None:
    """All that runs is the plan's, all of it runs, and nothing half-made lies about."""
    give_up = time.monotonic() + 20
    while running(life) - {"dync-life-serving.service"} != units_of(plan):
        assert time.monotonic() < give_up, running(life)
        time.sleep(0.2)
    status = life.dync("status", "life")
    assert status.returncode == 0, status.stdout
    assert life.machine.run("systemctl", "is-enabled", "dync-life.target").strip() == "enabled"
    assert left_half_made(life) == ""


def assert_named(life: Life) -> None:
    """All that runs is named by the status, whichever generation it was started from."""
    before = running(life)
    shown = life.dync("status", "life", "--format", "json")
    assert shown.returncode in (0, 1), shown.stderr
    said = json.loads(shown.stdout)
    named = {f"dync-life-{process['name']}.service" for process in said["processes"]}
    assert before - {"dync-life-serving.service"} <= named | {*said["left"]}


def left_half_made(life: Life) -> str:
    places = ("/etc/dync", "/usr/local/lib/systemd/system", "/etc/systemd/system")
    return life.machine.try_run("find", *places, "-name", ".*dync-*").stdout


def moments(command: Callable[[], object]) -> Iterator[float]:
    """Return moments within the time that a command takes."""
    begun = time.monotonic()
    command()
    took = time.monotonic() - begun
    chance = random.Random(7)
    yield from (took * (number + chance.random()) / KILLS for number in range(KILLS))


@pytest.fixture
def life(installed: Life) -> Life:
    installed.build()
    installed.install()
    return installed


def test_a_killed_upgrade_is_finished_by_the_next(life: Life) -> None:
    """To and fro between two bundles, of which one lacks units of the other."""
    texts = [ONE, PROFILE]

    def upgrade(number: int) -> Plan:
        return life.build(f"workers[0].env.A={number}", text=texts[number % 2])

    upgrade(0)
    bundle, hits = str(life.folder / "bundle"), 0
    for number, after_s in enumerate(moments(life.install), 1):
        plan = upgrade(number)
        hits += killed(life, after_s, "install", bundle, "--no-verify")
        assert_named(life)
        life.install()
        assert_settled(life, plan)
    assert hits > KILLS / 3


def test_a_killed_rollback_is_finished_by_the_next(life: Life) -> None:
    wide = life.build()
    one = life.build(text=ONE)
    life.install()
    numbers = {life.generation().rpartition("/")[2]: one}
    life.dync("rollback", "life")
    numbers[life.generation().rpartition("/")[2]] = wide
    (first, _), (second, _) = numbers.items()
    back = ["rollback", "life", "--to"]
    hits = 0
    for number, after_s in enumerate(moments(lambda: life.dync(*back, first)), 1):
        to = (second, first)[(number - 1) % 2]
        hits += killed(life, after_s, *back, to)
        assert_named(life)
        done = life.dync(*back, to)
        assert done.returncode == 0, done.stderr
        assert_settled(life, numbers[to])
    assert hits > KILLS / 3


def test_a_first_installation_that_was_killed_can_be_taken_away(life: Life) -> None:
    bundle, hits, begun = str(life.folder / "bundle"), 0, 0
    assert life.dync("uninstall", "life", "--purge").returncode == 0
    for after_s in moments(life.install):
        assert life.dync("uninstall", "life", "--purge").returncode == 0
        hits += killed(life, after_s, "install", bundle, "--no-verify")
        done = life.dync("uninstall", "life", "--purge")
        begun += done.returncode == 0
        assert done.returncode == 0 or "neither a bundle nor installed here" in done.stderr
        give_up = time.monotonic() + 20
        while running(life):
            assert time.monotonic() < give_up, running(life)
            time.sleep(0.2)
        assert life.machine.try_run("ls", "-A", "/etc/dync/life").stdout == ""
        assert left_half_made(life) == ""
        units = life.machine.try_run("find", "/usr/local/lib/systemd/system", "-name", "dync-life*")
        assert units.stdout == ""
        life.install()
    assert hits > KILLS / 3
    assert begun > KILLS / 4
