"""Find the deployment that an operator names: a bundle's folder, or what is installed by a name."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from compiler.deploy.installation import Host, Installation, installed_names, is_bundle, read_plan
from compiler.deploy.launch.lock import runner
from compiler.diagnostic import suggestion
from compiler.errors import HostError
from compiler.plan import Plan


class Manager(str, Enum):
    """Who started the processes, and so who knows their state and their logs."""

    LAUNCHER = "launch.sh"
    SYSTEMD = "systemd"
    NONE = "nobody"  # started by hand, or not at all


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """A deployment as it stands here; deployment is there under systemd only.

    named: what the operator called it, and what other commands find it by.
    """

    named: str
    plan: Plan
    folder: Path
    manager: Manager
    installation: Installation | None = None


def find_deployment(host: Host, named: str) -> Deployment:
    """Find what a bundle's folder or an installed name stands for.

    A bundle that launch.sh runs is that one; else what is installed under its name; else whatever
    was started by hand from it.
    Errors: HostError where there is neither.
    """
    folder = Path(named)
    if not is_bundle(folder):
        return installed_deployment(host, named)
    plan = read_plan(folder)
    if runner(folder) is not None:
        return Deployment(named=named, plan=plan, folder=folder, manager=Manager.LAUNCHER)
    if plan.name in installed_names(host):
        return installed_deployment(host, plan.name)
    return Deployment(named=named, plan=plan, folder=folder, manager=Manager.NONE)


def installed(host: Host, name: str) -> Installation:
    """Find what is installed on a host by its name.

    Errors: HostError where nothing is.
    """
    names = list(installed_names(host))
    if name not in names:
        near = suggestion(name, names)
        hint = f"; did you mean {near}?" if near else f"; installed: {', '.join(names) or 'none'}"
        raise HostError(f"{name!r} is neither a bundle nor installed here{hint}")
    return Installation(host=host, name=name)


def installed_deployment(host: Host, name: str) -> Deployment:
    """Return what is installed on a host by its name.

    Errors: HostError where nothing is.
    """
    installation = installed(host, name)
    number = installation.current
    assert number is not None, "installed_names lists it"
    return Deployment(
        named=name,
        plan=installation.plan(number),
        folder=installation.folder(number),
        manager=Manager.SYSTEMD,
        installation=installation,
    )
