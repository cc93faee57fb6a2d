"""Find the operating system's processes behind a plan: whoever listens on its ports."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from compiler.plan import Plan
from compiler.process import ProcessName


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
    """Return the live process of each of the plan's that listens; a launcher's shell is none."""
    owners = listening()
    found = {}
    for process in plan.processes:
        # An engine core listens for NIXL, and is a child of what was started.
        pids = {pid for item in process.listens for pid in owners.get(item.port, ())}
        alive = oldest(pids)
        if alive is not None:
            found[process.name] = alive
    return found


def listening() -> dict[int, frozenset[int]]:
    """Return who listens: TCP port to pids; 0 where this account may not see whose it is.

    A child that was forked holds its parent's ports too.
    """
    owners: dict[int, set[int]] = {}
    for item in psutil.net_connections(kind="tcp"):
        if item.status == psutil.CONN_LISTEN and item.laddr:
            owners.setdefault(item.laddr.port, set()).add(item.pid or 0)
    return {port: frozenset(pids) for port, pids in owners.items()}


def oldest(pids: Iterable[int]) -> Running | None:
    """Return the process that was started first, of several on the same ports: the parent.

    By its start, and not by its number: numbers begin anew after /proc/sys/kernel/pid_max, which is
    32768 on many hosts. An unseen one (pid 0) counts only where no other is left.
    """
    numbers = set(pids)
    seen = [item for pid in numbers - {0} if (item := look_at(pid)) is not None]
    if seen:
        return min(seen, key=lambda item: (item.started_s, item.pid))
    return UNSEEN if 0 in numbers else None


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
