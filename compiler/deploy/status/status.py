"""What a deployment does right now, process by process, whoever started it."""

from __future__ import annotations

import time
import urllib.error
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from pathlib import Path

from compiler.deploy.deployment import Deployment, Manager
from compiler.deploy.install.switch import left_over
from compiler.deploy.install.unit_links import drop_ins
from compiler.deploy.installation import Installation
from compiler.deploy.probe.drift import form_of
from compiler.deploy.probe.http_client import NO_ANSWER, WITHIN_S, open_url
from compiler.deploy.probe.owners import held_by_others, ownership
from compiler.deploy.probe.processes import Running, running
from compiler.deploy.probe.services import ask_redis
from compiler.deploy.status.activity import Activity, activity
from compiler.deploy.systemd import Systemd, UnitState
from compiler.deploy.verify.record import Record, recorded
from compiler.emit.systemd.unit_names import process_unit, target_unit
from compiler.errors import ProbeError
from compiler.plan import Plan
from compiler.process import Process, ProcessName, Protocol, Ready

_NOT_ASKED_SO = (HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.UNAUTHORIZED)
"""What a server says to a GET where it serves a POST, without the key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessStatus:
    """One process: its state in its manager's words, and what its own counters say.

    restarts is None where nobody counts them, pid and uptime_s where nothing runs or may be seen.
    """

    name: ProcessName
    kind: str
    state: str
    is_ready: bool
    pid: int | None
    uptime_s: float | None
    restarts: int | None
    activity: Activity


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """A whole deployment; generation is None where it is not installed.

    proof: how its last proof here ended; None where nothing of it was proved as it is now. left:
    units that run and are none of this generation's, as a killed installation leaves them.
    """

    name: str
    named: str
    url: str
    manager: str
    generation: int | None
    proof: Record | None
    processes: tuple[ProcessStatus, ...]
    drop_ins: tuple[Path, ...]
    left: tuple[str, ...] = ()

    @property
    def is_ready(self) -> bool:
        """Whether every process is."""
        return all(process.is_ready for process in self.processes)


def status(deployment: Deployment, metrics: Mapping[str, str]) -> Status:
    """Look at every process: is it there, ready, what do its caches and transfers do.

    metrics names the stack's metrics, as its status_metrics.
    Errors: HostError where it is installed and systemd does not answer.
    """
    plan, installation = deployment.plan, deployment.installation
    states = _states(deployment)
    alive, strangers = running(plan), held_by_others(plan, ownership(deployment))
    found = tuple(
        _held(process, strangers[process.name])
        if process.name in strangers
        else _process(process, states.get(process.name), alive.get(process.name), metrics)
        for process in plan.processes
    )
    services = installation.services(plan) if installation else ()
    units = (*services, target_unit(plan.name))
    return Status(
        name=plan.name,
        named=deployment.named,
        url=plan.url,
        manager=deployment.manager.value,
        generation=installation.current if installation else None,
        proof=recorded(deployment),
        processes=found,
        drop_ins=tuple(drop_ins(installation, units)) if installation else (),
        left=_left(installation) if installation else (),
    )


def _left(installation: Installation) -> tuple[str, ...]:
    """List the units of other generations that still run."""
    units = left_over(installation, installation.current or 0)
    states = Systemd(installation.host.is_system).show(units)
    return tuple(unit for unit, state in states.items() if state.is_running)


def _states(deployment: Deployment) -> dict[ProcessName, UnitState]:
    if deployment.manager is not Manager.SYSTEMD or deployment.installation is None:
        return {}
    systemd = Systemd(deployment.installation.host.is_system)
    systemd.refuse_unless_running()
    units = _unit_names(deployment.plan)
    states = systemd.show(units.values())
    return {name: states[unit] for name, unit in units.items()}


def _unit_names(plan: Plan) -> dict[ProcessName, str]:
    return {process.name: process_unit(plan.name, process.name) for process in plan.processes}


def _process(
    process: Process, unit: UnitState | None, alive: Running | None, metrics: Mapping[str, str]
) -> ProcessStatus:
    is_taken = unit is None and alive is not None and form_of(process, alive) == "other"
    is_up = alive is not None and not is_taken if unit is None else unit.active == "active"
    up_s = time.time() - alive.started_s if alive and alive.pid and is_up else None
    state = "port is another's" if is_taken else ("running" if is_up else "not running")
    if unit is not None:
        state = f"{unit.active} ({unit.sub})"
        up_s = _since(unit) if is_up else None
    return ProcessStatus(
        name=process.name,
        kind=process.role.value if process.role else process.kind.value,
        state=state,
        is_ready=is_up and _is_ready(process.ready),
        pid=(unit.main_pid if unit else alive.pid if alive else 0) or None,
        uptime_s=up_s,
        restarts=unit.restarts if unit else None,
        activity=activity(process, metrics) if is_up else Activity(),
    )


def _held(process: Process, why: str) -> ProcessStatus:
    """Return the status of a process whose port is another's: what answers there is not asked."""
    return ProcessStatus(
        name=process.name,
        kind=process.role.value if process.role else process.kind.value,
        state=why,
        is_ready=False,
        pid=None,
        uptime_s=None,
        restarts=None,
        activity=Activity(),
    )


def _since(unit: UnitState) -> float | None:
    """Return the seconds since a unit became active; systemd writes local time with its zone."""
    try:
        begun = datetime.strptime(unit.since.rpartition(" ")[0], "%a %Y-%m-%d %H:%M:%S")
    except ValueError:
        return None
    return max(time.time() - begun.timestamp(), 0.0)


def _is_ready(ready: Ready) -> bool:
    """Return whether a process that was ready still answers.

    A request that is posted to be ready is not sent again: the cache would count it.
    """
    if ready.protocol is Protocol.REDIS:
        return _answers_ping(ready)
    try:
        with open_url(ready.url, timeout=WITHIN_S) as response:
            return bool(response.status == HTTPStatus.OK)
    except urllib.error.HTTPError as error:
        return bool(ready.body) and error.code in _NOT_ASKED_SO
    except NO_ANSWER:
        return False


def _answers_ping(ready: Ready) -> bool:
    """Return whether a store answers; to want a password first is an answer too."""
    try:
        ask_redis(ready.host, ready.port, "")
    except ProbeError as refusal:
        return refusal.is_password
    return True
