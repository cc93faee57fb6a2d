"""Make a subject, with those processes of the deployment that run already."""

from __future__ import annotations

from pathlib import Path

from compiler.deploy.deployment import Manager
from compiler.deploy.doctor.subject import Subject
from compiler.deploy.installation import Host, Installation
from compiler.deploy.probe.drift import form_of
from compiler.deploy.probe.processes import running
from compiler.deploy.systemd import Systemd
from compiler.emit.systemd.unit_names import process_unit
from compiler.errors import HostError
from compiler.plan import Plan
from compiler.process import Process
from compiler.stacks.stack import Stack

_OWN_FORMS = ("built", "switched", "off")


def subject_of_launch(plan: Plan, stack: Stack | None, folder: Path) -> Subject:
    """Return a bundle that launch.sh is to start, on this host and as whoever runs this."""
    return Subject(plan=plan, stack=stack, folder=folder, running=running_launch(plan))


def subject_of_units(plan: Plan, stack: Stack | None, folder: Path, host: Host) -> Subject:
    """Return a bundle that `dync install` is to put in place on a host."""
    return Subject(
        plan=plan,
        stack=stack,
        folder=folder,
        host=host,
        manager=Manager.SYSTEMD,
        running=running_units(plan, host),
    )


def running_units(plan: Plan, host: Host) -> tuple[Process, ...]:
    """Return the processes of what is installed under a plan's name whose units run.

    They are those of the current generation; of another release's, which this one cannot read, the
    new plan's of the same names.
    """
    installation = Installation(host=host, name=plan.name)
    if not host.is_here or installation.current is None:
        return ()
    systemd = Systemd(host.is_system)
    try:
        systemd.refuse_unless_running()
        present = _present(installation, installation.current, plan)
        units = {process_unit(plan.name, item.name): item for item in present.processes}
        states = systemd.show(units)
    except HostError:
        return ()
    return tuple(
        process
        for unit, process in units.items()
        if states[unit].main_pid or states[unit].is_running
    )


def _present(installation: Installation, number: int, new: Plan) -> Plan:
    try:
        return installation.plan(number)
    except HostError:
        return new


def running_launch(plan: Plan) -> tuple[Process, ...]:
    """Return the processes of a plan that listen on its ports, whoever started them.

    One that wrote over its arguments, as vllm-router does, is counted beside one that did not.
    """
    alive = running(plan)
    forms = {
        item.name: form_of(item, alive[item.name]) for item in plan.processes if item.name in alive
    }
    own = _OWN_FORMS if set(_OWN_FORMS).isdisjoint(forms.values()) else (*_OWN_FORMS, "renamed")
    return tuple(process for process in plan.processes if forms.get(process.name) in own)
