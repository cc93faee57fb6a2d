"""Bring running processes in line with a generation, in order, one at a time, until it serves."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from compiler.deploy.install.generations import read_bundle, running_generation
from compiler.deploy.installation import Installation
from compiler.deploy.systemd import Systemd, UnitState
from compiler.diff.restarts import Bundle, own_texts
from compiler.emit.systemd.unit_names import process_unit, restarted_with, serving_unit, target_unit
from compiler.errors import HostError
from compiler.plan import Plan
from compiler.process import Process, ProcessName

FAILED_STARTS = 3
"""So often a process may end before it is ready until it is given up."""
MARGIN_S = 60
_POLL_S = 0.2

Say = Callable[[str], None]


class NotReady(Exception):
    """A generation that does not come up; unit names the one to look at."""

    def __init__(self, unit: str, why: str) -> None:
        super().__init__(f"{unit} {why}")
        self.unit = unit


def outdated(installation: Installation, systemd: Systemd, number: int) -> set[ProcessName]:
    """List the processes that run from files other than this generation's.

    What a process was started from is read from the process, so that an installation that was
    interrupted is finished by the next one.
    """
    bundle = read_bundle(installation.folder(number))
    states = _states(systemd, bundle.plan)
    found = set()
    for process in bundle.plan.processes:
        state = states[process_unit(bundle.plan.name, process.name)]
        if state.main_pid == 0:
            continue
        started = running_generation(installation, state.main_pid)
        if started != number and _differs(installation, started, bundle, process.name):
            found.add(process.name)
    return found


def _differs(
    installation: Installation, number: int | None, new: Bundle, name: ProcessName
) -> bool:
    """Compare a process with an older generation, whose plan another release may have written."""
    if number is None:
        return True
    after = own_texts(new, name)
    try:
        return own_texts(read_bundle(installation.folder(number)), name) != after
    except HostError:
        return True


def roll_out(installation: Installation, systemd: Systemd, number: int, say: Say) -> float:
    """Start what does not run, then restart what is outdated, each until it is ready.

    Returns the seconds until a completion was answered in the end.
    Errors: NotReady for the first that fails; the rest is left as it is.
    """
    plan = installation.plan(number)
    pending = outdated(installation, systemd, number)
    states = _states(systemd, plan)
    units = [process_unit(plan.name, process.name) for process in plan.processes]
    for unit in units:
        if states[unit].active == "failed" or states[unit].main_pid:
            systemd.control("reset-failed", unit)  # its count of starts begins anew
    idle = [unit for unit in units if not states[unit].is_running]
    if idle:
        say(f"starting {', '.join(idle)}")
        systemd.control("start", "--no-block", *idle)
    for process in plan.processes:
        verb = "restart" if process.name in pending else "start"
        _until_ready(systemd, plan, process, verb, say)
        pending -= (
            {process.name, *restarted_with(plan, process.name)} if verb == "restart" else set()
        )
    return _until_serving(systemd, plan)


def _until_ready(systemd: Systemd, plan: Plan, process: Process, verb: str, say: Say) -> None:
    unit = process_unit(plan.name, process.name)
    within_s = process.ready.timeout_s + process.stop_s + MARGIN_S
    begun = time.monotonic()
    if verb == "restart":
        say(f"restarting {unit}")
    command = systemd.begin(verb, unit)
    first: int | None = None
    try:
        while True:
            state = systemd.show([unit])[unit]
            if command.poll() is not None:
                if state.active == "active":
                    break
                first = state.restarts if first is None else first
                ended = state.restarts - first + (state.sub in ("auto-restart", "failed"))
                if state.active == "failed" or ended >= FAILED_STARTS:
                    raise NotReady(unit, f"ended {ended} times before it was ready")
            if time.monotonic() - begun > within_s:
                raise NotReady(unit, f"is not ready after {within_s} s")
            time.sleep(_POLL_S)
    finally:
        if command.poll() is None:
            command.kill()
        command.wait()
    took = time.monotonic() - begun
    if took > 1:
        say(f"{unit} ready after {took:.0f} s")


def _until_serving(systemd: Systemd, plan: Plan) -> float:
    """Ask for a completion, through the unit that a boot waits for."""
    begun, serving = time.monotonic(), serving_unit(plan.name)
    target = target_unit(plan.name)
    is_up = systemd.show([target])[target].active == "active"
    if systemd.begin("start", serving if is_up else target).wait():
        raise NotReady(serving, "had no completion")
    return time.monotonic() - begun


def _states(systemd: Systemd, plan: Plan) -> dict[str, UnitState]:
    return systemd.show(process_unit(plan.name, process.name) for process in plan.processes)


def stop(systemd: Systemd, units: Iterable[str]) -> None:
    """Stop units, and forget that they ever failed."""
    there = systemd.show(units)
    known = [unit for unit, state in there.items() if state.load != "not-found" or state.main_pid]
    if known:
        systemd.control("stop", *known)
        for unit, state in systemd.show(known).items():
            if state.active == "failed":
                systemd.control("reset-failed", unit)
