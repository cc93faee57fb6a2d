"""Find the operating system's processes behind a plan: whoever listens on its ports."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from compiler.plan import Plan, ProcessName


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """One live process; environment is None where only its owner or root may read it.

    pid 0 stands for another account's process, of which nothing may be seen but that it listens.
    """

    pid: int
    argv: tuple[str, ...]
    folder: Path | None
    environment: Mapping[str, str] | None
    started_s: float


UNSEEN = Running(pid=0, argv=(), folder=None, environment=None, started_s=0.0)


def running(plan: Plan) -> dict[ProcessName, Running]:
    """Give the live process of each of the plan's that listens; a launcher's shell is none."""
    owners = listening()
    found = {}
    for process in plan.processes:
        pids = {owners[item.port] for item in process.listens if item.port in owners}
        # The oldest first: an engine core listens for NIXL, and is a child of what was started.
        in_order = sorted(pids, key=lambda pid: (pid == 0, pid))
        seen = [look_at(pid) if pid else UNSEEN for pid in in_order]
        alive = next((item for item in seen if item is not None), None)
        if alive is not None:
            found[process.name] = alive
    return found


def listening() -> dict[int, int]:
    """Give who listens: TCP port to pid, or to 0 where this account may not see whose it is."""
    owners: dict[int, int] = {}
    for item in psutil.net_connections(kind="tcp"):
        if item.status == psutil.CONN_LISTEN and item.laddr:
            port, pid = item.laddr.port, item.pid or 0
            owners[port] = min(pid, owners.get(port, pid))  # a child may hold it too
    return owners


def look_at(pid: int) -> Running | None:
    """Read one process from /proc; None where it has gone or may not be seen."""
    try:
        process = psutil.Process(pid)
        argv, started_s = tuple(process.cmdline()), process.create_time()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return None
    try:
        folder = Path(os.readlink(f"/proc/{pid}/cwd"))
        environment: Mapping[str, str] | None = process.environ()
    except (OSError, psutil.Error):
        return Running(pid=pid, argv=argv, folder=None, environment=None, started_s=started_s)
    return Running(pid=pid, argv=argv, folder=folder, environment=environment, started_s=started_s)
