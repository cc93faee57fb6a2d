"""Say whose the sockets of a deployment must be: its launcher's, its units', or its account's."""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from compiler.addresses import reachable
from compiler.deploy.deployment import Deployment, Manager
from compiler.deploy.launch.lock import runner
from compiler.deploy.launch.marks import is_marked, mark_of
from compiler.deploy.probe.sockets import Owner, Ownership
from compiler.emit.systemd.unit_names import process_unit
from compiler.errors import HostError
from compiler.plan import Plan
from compiler.process import Process, ProcessName


def ownership(deployment: Deployment) -> Ownership:
    """Return whose each address of a deployment must be, as it runs now."""
    owner_of = _owner_of(deployment)
    return Ownership(
        {
            (reachable(item.host), item.port): owner_of(process)
            for process in deployment.plan.processes
            for item in process.listens
        }
    )


def held_by_others(plan: Plan, own: Ownership) -> dict[ProcessName, str]:
    """Return the processes of which a port is another's, and who holds it."""
    found = {}
    for process in plan.processes:
        said = (own.stranger(reachable(item.host), item.port) for item in process.listens)
        if why := next(filter(None, said), ""):
            found[process.name] = why
    return found


def _owner_of(deployment: Deployment) -> Callable[[Process], Owner]:
    if deployment.manager is Manager.SYSTEMD:
        return _under_systemd(deployment)
    launcher = None
    with suppress(HostError):
        launcher = runner(deployment.folder)
    if deployment.manager is Manager.LAUNCHER and launcher is not None:
        return _under_launcher(deployment, launcher)
    uids = frozenset({os.geteuid(), os.stat(deployment.folder).st_uid})
    return lambda _process: Owner(uids=uids, is_own=lambda _pid: True)


def _under_launcher(deployment: Deployment, launcher: int) -> Callable[[Process], Owner]:
    """Each process leads a session; what left it bears the mark.

    One that wrote over its environment, as vllm-router does, is known by its session alone.
    """
    mark, leaders, uids = mark_of(deployment.folder), set(), set()
    with suppress(OSError, psutil.Error):
        uids.add(os.stat(f"/proc/{launcher}").st_uid)
        leaders = {child.pid for child in psutil.Process(launcher).children()}

    def is_own(pid: int) -> bool:
        with suppress(OSError):
            return os.getsid(pid) in leaders or is_marked(pid, mark)
        return False

    return lambda _process: Owner(uids=frozenset(uids), is_own=is_own)


def _under_systemd(deployment: Deployment) -> Callable[[Process], Owner]:
    installation = deployment.installation
    uid = os.geteuid()
    if installation is None or installation.host.is_system:
        with suppress(KeyError):
            uid = pwd.getpwnam(deployment.plan.user).pw_uid

    def owner(process: Process) -> Owner:
        unit = re.compile(
            rf"/{re.escape(process_unit(deployment.plan.name, process.name))}(/|$)", re.M
        )
        return Owner(uids=frozenset({uid}), is_own=lambda pid: _is_in(pid, unit))

    return owner


def _is_in(pid: int, unit: re.Pattern[str]) -> bool:
    try:
        return unit.search(Path(f"/proc/{pid}/cgroup").read_text("utf-8", "replace")) is not None
    except OSError:
        return False
