"""Emit the unit that loads the GPUs' driver: root's, and so with nothing of the plan's in it."""

from __future__ import annotations

from collections.abc import Iterator

from compiler.emit.artifact import Artifact, header
from compiler.emit.render import Renderer
from compiler.emit.systemd.sandbox import DRIVERS
from compiler.emit.systemd.unit_names import drivers_unit, has_gpus, target_unit
from compiler.emit.systemd.views import DriversView, UnitManager
from compiler.plan import Plan
from compiler.process import Process

PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
"""Where root's commands are looked up: folders of the system, none of a stack or a profile."""
_WITHIN_S = 120
# The first makes the device of unified memory, the second those of all GPUs; either may be missing.
_TOOLS = ("nvidia-modprobe -u -c 0", "nvidia-smi -L")


def emit_drivers(plan: Plan, manager: UnitManager, renderer: Renderer) -> Iterator[Artifact]:
    """Emit the unit where there are GPUs; a user's own manager may load nothing."""
    if not manager.is_system or not has_gpus(plan):
        return
    view = DriversView(
        header=header(plan),
        description=f"dync {plan.name}: load the driver of the GPUs",
        readme=f"%E/dync/{plan.name}/current/README.md",
        target=target_unit(plan.name),
        identifier=f"dync-{plan.name}-gpus",
        path=PATH,
        commands=tuple(map(_if_there, _TOOLS)),
        start_timeout_s=_WITHIN_S,
        sandbox=DRIVERS,
    )
    text = renderer.render("gpus.service.j2", view)
    yield Artifact(path=f"{manager.folder}/{drivers_unit(plan.name)}", text=text)


def drivers(plan: Plan, process: Process, manager: UnitManager) -> tuple[str, ...]:
    """Return the unit that a process on a GPU starts after."""
    return (drivers_unit(plan.name),) if process.gpus and manager.is_system else ()


def _if_there(tool: str) -> str:
    """Run a tool; what it cannot do is said by the process that then waits for its GPU in vain."""
    program, _, _ = tool.partition(" ")
    return f'-/bin/sh -c "! command -v {program} >/dev/null || exec {tool}"'
