"""Ports: each one that the plan listens on must be free, or be this deployment's own already."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator

from compiler.deploy.doctor.subject import Subject
from compiler.deploy.finding import Finding, failed, passed, warned
from compiler.deploy.probe.processes import listening, oldest
from compiler.process import Listen, Process


def check(subject: Subject) -> Iterator[Finding]:
    """Try to listen on every port, as its process would."""
    owners: dict[int, frozenset[int]] | None = None
    free = []
    for process in subject.plan.processes:
        for item in process.listens:
            error = _bind(item)
            if error is None:
                free.append(str(item.port))
                continue
            owners = listening() if owners is None else owners
            yield _taken(process, item, error, owners.get(item.port, frozenset()))
    if free:
        yield passed("ports", subject.plan.name, f"free: {', '.join(free)}")


def _bind(item: Listen) -> OSError | None:
    """Listen on a port for a moment; return what is in the way."""
    family = socket.AF_INET6 if ":" in item.host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # As the engines do: a port in TIME_WAIT may be taken again.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((item.host, item.port))
            probe.listen(1)
    except OSError as error:
        return error
    return None


def _taken(process: Process, item: Listen, error: OSError, pids: frozenset[int]) -> Finding:
    where = f"port {item.port}"
    what = f"{process.name} wants it ({item.purpose})"
    if error.errno != errno.EADDRINUSE:
        return failed(
            "ports", where, f"{what} on {item.host}: {error.strerror}",
            "frontend.host, or another port",
        )  # fmt: skip
    holder = oldest(pids - {0})
    if holder is not None and holder.argv == process.argv:
        return warned(
            "ports", where, f"{what}, and runs there already (pid {holder.pid})",
            "nothing, or stop it first",
        )  # fmt: skip
    by = f" by pid {holder.pid}: {' '.join(holder.argv)[:100]}" if holder else ""
    return failed(
        "ports", where, f"{what}; it is taken{by}",
        "end that process, or choose another port: frontend.port, workers[].port",
    )  # fmt: skip
