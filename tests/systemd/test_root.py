"""Programs of a stack, and variables of a profile, that would like to be run by root."""

from __future__ import annotations

from pathlib import Path

from compiler.emit.bundle import emit
from compiler.library import templates
from compiler.write.bundle import write
from tests.support import AGG, plan_of
from tests.systemd.machine import Machine
from tests.systemd.test_units import installed, stand_in, start_all

PLANTED = ("nvidia-smi", "nvidia-modprobe", "sleep", "readlink", "systemctl", "sh", "bash", "id")


def test_root_runs_no_program_of_a_stack(machine: Machine, shared: Path) -> None:
    """As their account all of it may run: that is the processes' own PATH and environment."""
    folder = shared / "planted"
    tells = folder / "tells"
    plan = plan_of(
        AGG,
        "name=planted",
        f"deploy.prefix={folder}/prefix",
        f"workers[0].env.BASH_ENV={folder}/profile",
    )
    stand_in(plan)
    tells.mkdir()
    tells.chmod(0o1777)
    tell = f'echo "$0" >>{tells}/$UID\n'
    (folder / "profile").write_text(tell.replace("$0", "profile"))
    for name in PLANTED:
        program = Path(plan.stack_program).with_name(name)
        program.write_text(f'#!/bin/bash\n{tell}echo "GPU 0: planted (UUID: GPU-0)"\n')
        program.chmod(0o755)
    write(emit(plan, templates()), folder / "bundle")
    installed(machine, folder / "bundle")
    start_all(machine, shared, [plan])
    account = machine.run("id", "-u", "dync").strip()
    assert sorted(path.name for path in tells.iterdir()) == [account]
    said = (tells / account).read_text()
    assert "bin/nvidia-smi" in said
    assert "profile" in said
    ended = machine.run("systemctl", "show", "-p", "Result,ExecMainStatus", "dync-planted-gpus")
    assert "Result=success" in ended
    machine.run("systemctl", "stop", "dync-planted.target")
