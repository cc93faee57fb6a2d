"""What root runs: read back from every golden unit of the system's manager."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from compiler.emit.systemd.drivers import PATH
from tests.test_facts import GOLDEN

UNITS = sorted(GOLDEN.glob("*/expected/systemd/*.service"))
IDS = [f"{unit.parts[-4]}-{unit.stem}" for unit in UNITS]


def lines(unit: Path, key: str) -> list[str]:
    """Return the values of a key, and of those that begin with it: Exec for each command."""
    pairs = (line.split("=", 1) for line in unit.read_text("utf-8").splitlines() if "=" in line)
    return [value for name, value in pairs if re.fullmatch(key, name)]


def test_there_are_units_of_both_sorts() -> None:
    as_root = {unit for unit in UNITS if not lines(unit, "User")}
    assert as_root
    assert len(UNITS) > len(as_root)


@pytest.mark.parametrize("unit", UNITS, ids=IDS)
def test_root_runs_nothing_of_the_plans(unit: Path) -> None:
    """What carries the plan's environment is the account's; root's has a fixed PATH alone."""
    commands = lines(unit, "Exec.*")
    assert commands
    privileged = [value for value in commands if re.match(r"[-@:]*[+!]", value)]
    assert privileged == []
    if lines(unit, "User"):
        assert lines(unit, "User") != ["root"]
        return
    assert lines(unit, "Environment") == [f"PATH={PATH}"]
    assert not lines(unit, "EnvironmentFile|PassEnvironment|LoadCredential|WorkingDirectory")
    known = r'-/bin/sh -c "! command -v (nvidia-[a-z]+) >/dev/null \|\| exec \1 [a-zL0 -]+"'
    assert all(re.fullmatch(known, command) for command in commands)


@pytest.mark.parametrize("unit", UNITS, ids=IDS)
def test_no_unit_leaves_a_core(unit: Path) -> None:
    """It would hold keys and prompts."""
    assert lines(unit, "LimitCORE") == ["0"]


@pytest.mark.parametrize("folder", sorted(GOLDEN.glob("*/expected/systemd")), ids=str)
def test_the_driver_is_loaded_where_there_are_gpus(folder: Path) -> None:
    """By the system's manager alone, before each process on a GPU."""
    [*loads] = folder.glob("*-gpus.service")
    assert not list(folder.glob("user/*-gpus.service"))
    waits = [
        unit
        for unit in folder.glob("*.service")
        if any(" gpus " in command for command in lines(unit, "ExecStartPre"))
    ]
    assert bool(loads) == bool(waits)
    for unit in waits:
        assert loads[0].name in lines(unit, "Wants")
        assert loads[0].name in lines(unit, "After")
