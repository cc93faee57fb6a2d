"""Where the logs of a deployment's processes are, whoever runs them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from compiler import bundle_paths
from compiler.deploy.deployment import Deployment, Manager
from compiler.deploy.systemd import Systemd
from compiler.emit.systemd.unit_names import process_unit
from compiler.errors import HostError
from compiler.process import Process
from compiler.write.safe_read import held_open

_MOST_BYTES = 16_000_000
"""The start and the end of a longer log are read: where engines say that they gave up."""


def log_file(deployment: Deployment, process: Process) -> Path | None:
    """Return the file that launch.sh writes for a process; None where it wrote none."""
    path = deployment.folder / bundle_paths.log_file(process.name)
    return path if deployment.manager is not Manager.SYSTEMD and path.is_file() else None


def read_log(deployment: Deployment, process: Process) -> str | None:
    """Read a process's log since its last start; None where there is none to be read."""
    path = log_file(deployment, process)
    if path is not None:
        return _ends(path)
    if deployment.installation is None:
        return None
    systemd = Systemd(deployment.installation.host.is_system)
    unit = process_unit(deployment.plan.name, process.name)
    started = systemd.show([unit])[unit].invocation
    words = (
        "--no-pager",
        "--output=cat",
        *((f"_SYSTEMD_INVOCATION_ID={started}",) if started else ()),
    )
    done = subprocess.run(
        systemd.journal((unit,), *words),
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    return None if done.returncode else done.stdout


def show_command(
    deployment: Deployment, processes: Sequence[Process], lines: int, *, follow: bool
) -> list[str]:
    """Return the command that shows the logs of processes: journalctl, or tail.

    Errors: HostError where none of them has a log.
    """
    if deployment.installation is not None:
        names = [process.name for process in processes]
        every = len(names) == len(deployment.plan.processes)
        units = (
            deployment.installation.services(deployment.plan)
            if every
            else tuple(process_unit(deployment.plan.name, name) for name in names)
        )
        options = ("--no-pager", f"--lines={lines}", *(("--follow",) if follow else ()))
        return Systemd(deployment.installation.host.is_system).journal(units, *options)
    files = [
        path for path in (log_file(deployment, item) for item in processes) if path is not None
    ]
    for item in processes:
        path = deployment.folder / bundle_paths.log_file(item.name)
        if os.path.lexists(path) and not (path.is_file() and os.access(path, os.R_OK)):
            raise HostError(f"{path} is no file that you may read: it is not shown")
    if not files:
        raise HostError(
            f"{deployment.folder}/logs has no log of it: start the bundle's launch.sh; what is "
            "started by hand logs to its own terminal"
        )
    # -F: launch.sh moves a log aside at its next start.
    return ["tail", f"--lines={lines}", *(("-F",) if follow else ()), "--", *map(str, files)]


def _ends(path: Path) -> str | None:
    try:
        with held_open(path) as handle, open(handle, "rb", closefd=False) as file:
            head = file.read(_MOST_BYTES // 2)
            size = file.seek(0, 2)
            file.seek(max(len(head), size - _MOST_BYTES // 2))
            return (head + b"\n" + file.read()).decode("utf-8", "replace")
    except OSError:
        return None
